"""SAE-TS and FGAA: the method file's T8, planted maps, and effects measured as they are defined."""

import sys

import pytest
import torch
from test_decomposition import states
from test_intervention import ROWS, SITE, by_hand, random_dictionary

from gossamer.errors import UsageError
from gossamer.steering import Coefficient, add, measure_site
from gossamer.steering.cell import Cell
from gossamer.steering.completions import SamplingPlan, complete
from gossamer.steering.effects import (
    FeatureEffects,
    coefficients_at_budget,
    fewest_directions,
    fit_effects,
    learn_effects,
    measure_effects,
)
from gossamer.steering.predictions import prediction_changes

M, BIAS = torch.tensor([[1, 0.2, 0], [0, 1, 0.5]]), torch.tensor([0.1, 0, 0.3])


def test_t8_the_vector_for_one_feature():
    found = FeatureEffects(SITE, M, BIAS).towards(1)
    torch.testing.assert_close(found.vector, torch.tensor([-0.92388, 0.382683]), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="from 0 to 2"):
        FeatureEffects(SITE, M, BIAS).towards(3)
    with pytest.raises(UsageError, match="no direction"):
        FeatureEffects(SITE, M * torch.tensor([1.0, 0, 1]), BIAS).towards(1)


def test_a_planted_map_is_found():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(200, 6, generator=generator), dim=1)
    planted, bias = torch.randn(6, 9, generator=generator), torch.randn(9, generator=generator)
    effects = directions @ planted + bias + 0.01 * torch.randn(200, 9, generator=generator)
    found = fit_effects(SITE, directions, effects, ridge=1e-9)
    torch.testing.assert_close(found.map, planted, rtol=0, atol=0.01)
    torch.testing.assert_close(found.bias, bias, rtol=0, atol=0.01)
    assert found.explained > 0.999
    noise = fit_effects(SITE, directions, torch.randn(200, 9, generator=generator))
    assert noise.explained < 0.1
    with pytest.raises(UsageError, match="more directions"):
        fit_effects(SITE, directions[:6], effects[:6])


def test_features_that_tell_texts_apart_and_are_rare():
    dictionary, effects = by_hand(), FeatureEffects(SITE, torch.eye(3), torch.tensor([0.0, 0, 1]))
    both = states(torch.tensor([[2.0, 0.6, 1]]), torch.tensor([[0.2, 1, 1]]))
    # Changes are 1.4 and 1.2; without the dense first feature only the second is left.
    found = effects.towards_contrast(dictionary, both, torch.tensor([0.5, 0.001, 0.0]))
    torch.testing.assert_close(found.vector, torch.tensor([0.0, 1, -1]) / 2**0.5)
    alone = effects.towards_contrast(dictionary, both, torch.zeros(3), k=1)
    torch.testing.assert_close(alone.vector, torch.tensor([1.0, 0, -1]) / 2**0.5)
    two = effects.towards_contrast(dictionary, both, torch.zeros(3)).vector
    weights = torch.tensor([1.4, 1.2, 0])
    torch.testing.assert_close(two, torch.nn.functional.normalize(weights / weights.norm() - ROWS[2], dim=0))
    with pytest.raises(UsageError, match="FGAA"):
        effects.towards_contrast(dictionary, both, torch.ones(3))


def test_effects_are_changes_of_means_on_what_is_written(tiny_gpt2):
    dictionary, plan = random_dictionary(SITE), SamplingPlan(samples=3, max_new_tokens=5, seed=1)
    directions = torch.nn.functional.normalize(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    coefficients = [Coefficient(5.0), Coefficient(8.0)]
    prompts = [" Mary went", " Tom and Amy"]
    found = measure_effects(tiny_gpt2, dictionary, directions, coefficients, prompts, plan)
    cells = [Cell("unsteered"), *(Cell("x", (add(SITE, v, c),)) for v, c in zip(directions, coefficients, strict=True))]
    means = []
    for written in complete(tiny_gpt2, cells, prompts, plan):
        x = tiny_gpt2.capture(written.new, [SITE])[SITE]
        means.append(dictionary.encode_dense(x[written.new.mask & ~written.new.first]).mean(dim=0))
    torch.testing.assert_close(found, torch.stack(means[1:]) - means[0], rtol=1e-4, atol=1e-5)
    assert float(found.abs().max()) > 0.01


def test_effects_are_learnt_with_coefficients_of_one_budget(tiny_gpt2):
    """The parts by hand: the fit is of the directions drawn, each as strong as the budget allows on the text."""
    text, dictionary = (
        tiny_gpt2.tokenize([" Mary went to the store", " John gave a drink to Mary"]),
        random_dictionary(SITE),
    )
    scale = measure_site(tiny_gpt2, SITE, text, dictionary)
    count, plan = fewest_directions(32), SamplingPlan(samples=1, max_new_tokens=3)
    assert count == 36
    directions, coefficients = [], []

    def keeps(*given):
        directions.append(given[2])
        coefficients.extend(given[3])
        return measure_effects(*given)

    module = sys.modules["gossamer.steering.effects"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "measure_effects", keeps)
        found = learn_effects(tiny_gpt2, dictionary, scale, text, [" Mary"], count, budget=0.2, plan=plan)
    rows, pushed = torch.nn.functional.normalize(dictionary.W_dec, dim=1), torch.cat(directions)
    near = (pushed @ rows.T).amax(dim=1) > 1 - 1e-5
    assert int(near.sum()) == min(18, int((scale.density > 0).sum()))
    pushes = [add(SITE, one, c) for one, c in zip(pushed, coefficients, strict=True)]
    rises = prediction_changes(tiny_gpt2, [Cell("x", (one,)) for one in pushes], text).mean("cross_entropy")
    assert float(rises.max()) <= 0.2 + 1e-6
    effects = measure_effects(tiny_gpt2, dictionary, pushed, coefficients, [" Mary"], plan)
    torch.testing.assert_close(found.map, fit_effects(SITE, pushed, effects).map)
    for few in (0, 35):
        with pytest.raises(UsageError, match=f"more directions than 35 expected to fit on 32 dimensions, found {few}"):
            learn_effects(tiny_gpt2, dictionary, scale, text, [" Mary"], few)


def test_the_coefficient_of_a_budget(tiny_gpt2):
    text = tiny_gpt2.tokenize([" Mary went to the store", " John gave a drink to Mary"])
    generator = torch.Generator().manual_seed(0)
    pushes = [add(SITE, torch.randn(32, generator=generator), 1.0) for _ in range(3)]
    found = coefficients_at_budget(tiny_gpt2, pushes, text, 0.2)
    for push, c in zip(pushes, found, strict=True):
        cells = [Cell("x", (push.at(c.times(factor)),)) for factor in (1.0, 1.1)]
        rise = prediction_changes(tiny_gpt2, cells, text).mean("cross_entropy")
        assert rise[0] <= 0.2 + 1e-6
        assert rise[1] > 0.2 or c.raw > 3.9
    with pytest.raises(UsageError, match="budget"):
        coefficients_at_budget(tiny_gpt2, pushes, text, 0.0)
