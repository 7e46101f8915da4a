"""Files of earlier versions, in which some settings had other names."""

import json
from dataclasses import asdict, replace

from training_fixtures import CONFIG

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import Site
from gossamer.training.config import DictionaryTrainerConfig, TrainingConfig
from gossamer.training.dead_latents import Resampling
from gossamer.training.end_to_end_trainer import _intended_k
from gossamer.training.objectives import NormWeightedL1
from gossamer.training.older import with_present_names
from gossamer.training.request import claim


def as_before(facts):
    """The settings as an earlier version wrote them."""
    text = json.dumps(facts)
    for now, then in (("trainer", "learner"), ("dead_latents", "remedy"), ("norm_weighted_l1", "april")):
        text = text.replace(f'"{now}"', f'"{then}"')
    return json.loads(text)


def test_names_come_out_as_they_are_now():
    free = replace(CONFIG.trainer.optimiser, decoder_norm="free")
    trainer = DictionaryTrainerConfig(
        64, NormWeightedL1(), Resampling(), free, scaling="sqrt_d", initial_norm=0.1, sensitivity=0.0
    )
    facts = json.loads(json.dumps({"plans": [asdict(TrainingConfig(trainer=trainer))]}))
    assert as_before(facts) != facts
    assert with_present_names(as_before(facts)) == facts


def test_a_folder_that_was_begun_before_goes_on(tmp_path):
    request = json.loads(json.dumps({"dtype": "float32", "weights_sha256": "a", **asdict(CONFIG)}))
    (tmp_path / "settings.json").write_text(json.dumps(as_before(request)))
    (tmp_path / "work.safetensors").write_text("")
    claim(tmp_path, request)


def test_an_older_dictionary_says_for_how_many_latents_it_was_trained():
    provenance = {"training": {"plan": {"learner": {"objective": {"name": "batchtopk", "k": 24}}}}}
    made = Dictionary(DictionaryConfig("jumprelu", 8, 16, site=Site("resid_post", 0)), provenance=provenance)
    assert _intended_k(made) == 24
