"""From text to saved transcoders: the files are those of SAELens or sparsify, and claims are measured."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, texts

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary import Dictionary
from gossamer.dictionary.attach import measure
from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training import pipeline, train_transcoders, transcoders
from gossamer.training.objectives import L1, BatchTopK, Gated, StepL0, TopK
from gossamer.training.sweep_specs import SweepSpec

READ, WRITTEN = Site("mlp_in", 1), Site("mlp_out", 1)
PAIRS = {READ: WRITTEN, Site("mlp_in", 0): Site("mlp_out", 0)}
ALONE = replace(CONFIG, finetune=replace(CONFIG.finetune, tokens=0))
TRAINER = replace(CONFIG.trainer, sensitivity=0.0)


def plan(objective, name="", trainer=TRAINER):
    return SweepSpec(name, replace(trainer, objective=objective), 0)


@pytest.fixture
def train(tiny_gpt2, tmp_path):
    def run(*plans, pairs=PAIRS, config=ALONE, **more):
        return train_transcoders(tiny_gpt2, texts(), pairs, config, plans, tmp_path / "run", **more)

    return run


OBJECTIVES = [
    ("transcoder", plan(L1(coefficient=0.1), "l1")),
    ("jumprelu_transcoder", plan(BatchTopK(k=6), "one-threshold")),
    ("jumprelu_transcoder", plan(BatchTopK(k=6), "minding", CONFIG.trainer)),
    ("jumprelu_transcoder", plan(StepL0(), "jumprelu")),
]


def test_saelens_loads_what_was_trained(train, tiny_gpt2, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    found = train(*(one for _, one in OBJECTIVES))
    activations = tiny_gpt2.capture(tiny_gpt2.tokenize(texts(4)), [READ])[READ]
    for architecture, one in OBJECTIVES:
        ours = found[one.name][READ]
        theirs = sae_lens.SAE.load_from_disk(tmp_path / "run" / "transcoders" / one.name / "mlp_in.1")
        assert theirs.cfg.architecture() == architecture
        assert (ours.site, ours.site_out) == (READ, WRITTEN)
        latents = ours.encode_dense(activations)
        assert latents.any()
        torch.testing.assert_close(theirs.encode(activations), latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(theirs(activations), ours(activations), atol=1e-5, rtol=1e-5)


def test_it_claims_what_it_does_on_held_out_text(train, tiny_gpt2):
    transcoder = train(plan(BatchTopK(k=6)))[""][READ]
    held_out = Corpus.build(tiny_gpt2, *split_texts(texts(), ALONE.corpus, 0), ALONE.corpus, 0).held_out
    found = measure(tiny_gpt2, {READ: transcoder}, held_out)[READ]
    assert (transcoder.reported.l0, transcoder.reported.explained_variance) == (found.l0, found.explained_variance)
    assert transcoder.provenance["training"]["config"]["trainer"]["objective"]["k"] == 6


def test_topk_is_saved_as_sparsify_and_a_second_call_reads_what_the_first_wrote(train, tmp_path, monkeypatch):
    first = train(plan(TopK(k=6)))[""]
    assert list(first) == sorted(PAIRS)
    assert (tmp_path / "run" / "transcoders" / "mlp_in.1" / "sae.safetensors").is_file()
    monkeypatch.setattr(pipeline, "sample_text", None)
    monkeypatch.setattr(transcoders, "fit", None)
    again = train(plan(TopK(k=6)))[""]
    for site, transcoder in first.items():
        assert again[site].config == transcoder.config
        assert all(torch.equal(again[site].state_dict()[name], w) for name, w in transcoder.state_dict().items())
    assert Dictionary.load(tmp_path / "run" / "transcoders" / "mlp_in.1").site_out == WRITTEN
    with pytest.raises(UsageError, match="belongs to another training run"):
        train(plan(TopK(k=6)), pairs={site: Site("attn_out", out.layer) for site, out in PAIRS.items()})


@pytest.mark.parametrize(
    ("plans", "changes", "match"),
    [
        ([plan(L1())], {"config": CONFIG}, "not fine-tuned on the model's logits; set the tokens of finetune to 0"),
        ([plan(Gated())], {}, "no format holds gated transcoders"),
        ([plan(L1())], {"pairs": {READ: Site("q", 1)}}, r"one vector a token, .* found q.1"),
        ([plan(L1())], {"pairs": {READ: READ}}, "another site_out than the site mlp_in.1"),
        ([plan(L1())], {"pairs": {READ: Site("mlp_out", 7)}}, "mlp_out.7"),
        ([plan(L1())], {"pairs": {}}, "at least one pair of sites"),
        ([plan(L1())], {"also": ["paper"]}, "metrics: expected tensorboard or wandb"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(train, tmp_path, plans, changes, match):
    with pytest.raises(UsageError, match=match):
        train(*plans, **changes)
    assert not (tmp_path / "run").exists()
