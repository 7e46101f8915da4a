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
    fit_effects,
    learn_effects,
    measure_effects,
    predicts,
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


def planted_effects(count: int, width: int, noise: float):
    """Directions, and effects of a map and bias that are known, with noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)
    planted, bias = torch.randn(width, 9, generator=generator), torch.randn(9, generator=generator)
    effects = directions @ planted + bias + noise * torch.randn(count, 9, generator=generator)
    return directions, planted, bias, effects


def test_a_planted_map_is_found():
    directions, planted, bias, effects = planted_effects(200, 6, 0.01)
    found = fit_effects(SITE, directions, effects)
    torch.testing.assert_close(found.map, planted, rtol=0, atol=0.02)
    torch.testing.assert_close(found.bias, bias, rtol=0, atol=0.01)
    assert found.explained > 0.999
    noise = fit_effects(SITE, directions, torch.randn(200, 9, generator=torch.Generator().manual_seed(1)))
    assert abs(noise.explained) < 0.1
    assert not predicts(0.0)
    with pytest.raises(UsageError, match="at least 20 directions expected, found 19"):
        fit_effects(SITE, directions[:19], effects[:19])


@pytest.mark.parametrize("count", [60, 40])
def test_few_noisy_directions_do_not_fit_the_noise(count):
    """As many as dimensions, or fewer: least squares is far worse than the mean, the fit with its penalty is not."""
    directions, _, _, effects = planted_effects(count, 50, 1.0)
    test = torch.arange(count) % 10 == 9
    x = torch.cat([directions, torch.ones(count, 1)], dim=1)
    plain = torch.linalg.lstsq(x[~test], effects[~test], driver="gelsd").solution
    unseen = effects[test]
    spread = (unseen - effects[~test].mean(dim=0)).square().sum()
    least_squares = 1 - float((unseen - x[test] @ plain).square().sum() / spread)
    assert least_squares < -0.5 < -0.1 < fit_effects(SITE, directions, effects).explained


def test_the_penalty_is_the_one_that_leave_one_out_prefers():
    """By hand: every direction predicted from the others at every penalty; the fit is that of the best one."""
    directions, _, _, effects = planted_effects(40, 12, 0.5)
    kept = torch.arange(40) % 10 != 9
    x, y = directions[kept].double(), effects[kept].double()

    def ridge(x, y, penalty):
        centre, mean = x.mean(dim=0), y.mean(dim=0)
        found = torch.linalg.solve(
            (x - centre).T @ (x - centre) + penalty * torch.eye(12, dtype=torch.float64), (x - centre).T @ (y - mean)
        )
        return found, mean - centre @ found

    size = float(torch.linalg.svdvals(x - x.mean(dim=0)).square().mean())
    errors = {}
    for power in range(-6, 4):
        missed = 0.0
        for one in range(len(x)):
            others = torch.arange(len(x)) != one
            found, bias = ridge(x[others], y[others], size * 10.0**power)
            missed += float((y[one] - x[one] @ found - bias).square().sum())
        errors[power] = missed
    best = min(errors, key=errors.get)
    assert best not in (-6, 3)
    found, bias = ridge(x, y, size * 10.0**best)
    fitted = fit_effects(SITE, directions, effects)
    torch.testing.assert_close(fitted.map, found.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted.bias, bias.float(), rtol=1e-4, atol=1e-5)


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
    count, plan = 36, SamplingPlan(samples=1, max_new_tokens=3)
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
    for few in (0, 19):
        with pytest.raises(UsageError, match=f"at least 20 directions expected, found {few}"):
            learn_effects(tiny_gpt2, dictionary, scale, text, [" Mary"], few)


def test_the_coefficient_of_a_budget(tiny_gpt2):
    text = tiny_gpt2.tokenize([" Mary went to the store", " John gave a drink to Mary"])
    generator = torch.Generator().manual_seed(0)
    pushes = [add(SITE, size * torch.randn(32, generator=generator), 1.0) for size in (0.02, 0.5, 1, 2, 30)]
    found = coefficients_at_budget(tiny_gpt2, pushes, text, 0.2)
    rise = prediction_changes(
        tiny_gpt2, [Cell("x", (push.at(c),)) for push, c in zip(pushes, found, strict=True)], text
    ).mean("cross_entropy")
    assert float(rise.max()) <= 0.2 + 1e-6
    # Pushes of a random model stop costing more: what does not reach the budget gets the largest coefficient.
    reached = [cost >= 0.18 - 1e-6 for cost in rise.tolist()]
    assert [near or one.raw > 3.9 for near, one in zip(reached, found, strict=True)] == [True] * 5
    assert not reached[0]
    assert sum(reached) >= 2
    with pytest.raises(UsageError, match="budget"):
        coefficients_at_budget(tiny_gpt2, pushes, text, 0.0)
