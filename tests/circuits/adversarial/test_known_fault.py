"""A fault that a real model is known to have: after "noun preposition noun" its verb agrees with the nearest noun."""

import pytest
import torch

from gossamer import LanguageModel
from gossamer.circuits.adversarial import AdversarialSettings, PromptRecord, adversarial_study
from gossamer.circuits.adversarial.results import CIRCUIT
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.nodes import Nodes
from gossamer.dictionary import DictionarySet
from gossamer.dictionary.dictionary import Dictionary, DictionaryConfig
from gossamer.tasks import get
from gossamer.tasks.lexicon import OBJECT_NOUNS, SPARE_SUBJECTS, SUBJECTS

pytestmark = [pytest.mark.real, pytest.mark.slow]

NUMBER = {form: number for pair in (*SUBJECTS, *SPARE_SUBJECTS, *OBJECT_NOUNS) for number, form in enumerate(pair)}


def signed_directions(model, site):
    """A dictionary that loses nothing: every direction of a random rotation, and its opposite."""
    d = model.d_model
    rotation = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0))).Q
    made = Dictionary(DictionaryConfig("relu", d, 2 * d, site=site))
    for parameter in made.parameters():
        parameter.data.zero_()
    made.W_enc.data.copy_(torch.cat([rotation, -rotation], dim=1))
    made.W_dec.data.copy_(torch.cat([rotation.T, -rotation.T]))
    return made.requires_grad_(False)


def number_circuit(model, dictionaries, task):
    """The latents at the subject that differ most between singular and plural."""
    clean, index = task.train.clean, task.role_names.index("subject")
    plural = torch.tensor([prompt.case.startswith("plural") for prompt in task.train.prompts])
    streams, places = model.capture(clean.tokens, list(dictionaries)), []
    for number, (site, dictionary) in enumerate(dictionaries.items()):
        latents = (dictionary.encode_dense(streams[site]) * (clean.roles == index)[:, :, None]).sum(dim=1)
        gap = (latents[plural].mean(dim=0) - latents[~plural].mean(dim=0)).abs()
        places += [(number, index, latent) for latent in gap.topk(10).indices.tolist()]
    nodes = Nodes(tuple(dictionaries), task.role_names, *torch.tensor(places).unbind(1))
    inputs = Inputs.of(model, dictionaries, task)
    return Circuit.from_nodes(nodes, torch.arange(20), model=model.title, task=task.name, inputs=inputs)


def test_the_nearest_noun_is_found_again_from_simple_prompts(real_folder, tmp_path):
    model = LanguageModel.load(real_folder / "models" / "tinytalk-3m-gpt2", device="cpu")
    task = get("sva-simple").generate(model.tokenizer, n=96, bos=True)
    dictionaries = DictionarySet([signed_directions(model, f"resid_post.{layer}") for layer in (1, 2)])
    circuit = number_circuit(model, dictionaries, task)
    settings = AdversarialSettings(budget=64, searches=4, prompts=4, choice=12, held_out=40)
    path = tmp_path / "prompts.jsonl"
    found = adversarial_study(circuit, model, dictionaries, settings=settings, prompts_file=path)
    own = found.arm(CIRCUIT)
    assert any(edit.split()[1:4] == ["phrase", "after", "subject"] for edit in own.recipe), own.recipe
    assert sum(own.held_out) >= 0.4 * len(own.held_out)
    broken = [one.success.text.split() for one in PromptRecord.load(path).successes if one.arm == CIRCUIT]
    # "The SUBJECT PREPOSITION the NOUN": what breaks is that the two have other numbers.
    attracted = [NUMBER[words[1]] != NUMBER[words[-1]] for words in broken]
    assert sum(attracted) >= 0.9 * len(attracted)
    # As they are the prompts are no trouble: the model fails on hardly one of the 72 and more that were drawn.
    assert found.failed_before <= 2
    # The dictionaries lose nothing, so that the model with them fails wherever it does itself.
    assert own.accepted.with_dictionaries == own.accepted.broken
