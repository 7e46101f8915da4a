"""The threshold that stands for a batch rule: against a sort in float64, and on dictionaries from short trainings."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts, with_fit

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary import DictionarySet
from gossamer.model import Site
from gossamer.training.calibration import calibrated
from gossamer.training.finetune import finetune
from gossamer.training.fit import fit, fit_tensors
from gossamer.training.objectives import BatchTopK, Matryoshka

SITES = [Site("resid_post", 0), Site("resid_post", 1)]


@pytest.mark.parametrize("guess", [0.0, 0.1, 1.0, 50.0])
def test_it_is_between_the_two_largest_that_a_sort_finds(guess):
    generator = torch.Generator().manual_seed(0)
    p = {"W_enc": torch.randn(8, 40, generator=generator), "b_enc": torch.randn(40, generator=generator)}
    inputs = [torch.randn(count, 8, generator=generator) for count in (30, 1, 70)]
    found = float(calibrated(p, inputs, 3, guess))
    pre = torch.cat(inputs).double() @ p["W_enc"].double() + p["b_enc"].double()
    ordered = pre.reshape(-1).sort(descending=True).values
    assert float(ordered[3 * 101 - 1]) > found > float(ordered[3 * 101])


def test_where_fewer_are_positive_all_of_them_pass():
    p = {"W_enc": torch.eye(4), "b_enc": torch.zeros(4)}
    assert float(calibrated(p, [-torch.ones(5, 4)], 2, 1.0)) == 0
    assert float(calibrated(p, [torch.tensor([[3.0, -1, -1, -1]])], 2, 1.0)) == 0


@pytest.mark.parametrize("steps", [20, 60])
@pytest.mark.parametrize("pre_bias", [False, True])
def test_a_short_training_saves_a_dictionary_with_the_k_asked_for(steps, pre_bias, tmp_path):
    """The moving average of 20 steps is nowhere near: it left an L0 of 2.9 at k 6."""
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(24, 12, generator=generator)
    x, other = (
        (torch.rand(6000, 24, generator=generator) * (torch.rand(6000, 24, generator=generator) < 0.2)) @ mixed
        for _ in range(2)
    )
    asked = plans([SITES[0]], sensitivity=0.0, objective=BatchTopK(k=6), pre_bias=pre_bias)
    found = fit_tensors({SITES[0]: x}, asked, with_fit(tokens=64 * steps), tmp_path)[str(SITES[0])]
    assert float(found.encode(other).l0.float().mean()) == pytest.approx(6, rel=0.03)


@pytest.fixture
def corpus(tiny_gpt2):
    return Corpus.build(tiny_gpt2, *split_texts(texts(200), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


@pytest.mark.parametrize("sensitivity", [0.0, 0.9])
@pytest.mark.parametrize("kind", [BatchTopK, Matryoshka])
def test_fine_tuning_keeps_the_k_that_was_meant(tiny_gpt2, corpus, tmp_path, kind, sensitivity):
    """Also where thresholds differ between latents (jumprelu) and the dictionary itself says no k."""
    objective = kind(k=6)
    made = plans(SITES, objective=objective, sensitivity=sensitivity)
    fitted = DictionarySet(fit(tiny_gpt2, corpus, made, with_fit(tokens=64 * 20), tmp_path / "fit", 0).values())
    tuned = finetune(tiny_gpt2, fitted, corpus, replace(CONFIG.finetune, tokens=640), tmp_path / "tuned", 0)
    tokens = corpus.training
    streams = tiny_gpt2.capture(tokens, SITES)
    for dictionaries in (fitted, tuned):
        for site, one in dictionaries.items():
            own = streams[site][tokens.mask & (tokens.ids != 0)]
            assert float(one.encode(own).l0.float().mean()) == pytest.approx(6, rel=0.03)
