"""Curves, areas (T10), intervals, and coefficients that are chosen on one half and reported on the other."""

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.steering.pareto import UNSTEERED, SweepNumbers, area, at_budget, curves, frontier

COSTS = torch.tensor([0, 0.1, 0.2, 0.25, 0.6, 1.2], dtype=torch.float64)
BENEFITS = torch.tensor([0.02, 0.3, 0.25, 0.5, 0.9, 1], dtype=torch.float64)


def test_answers_that_are_not_known_are_left_out_of_means():
    """Not as zeros: each mean, whole and of every draw, is over what is known."""
    known = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    holes = known.clone()
    holes[1, 0] = holes[2, 1] = torch.nan
    benefit = torch.stack([torch.zeros(3, 2, dtype=torch.float64), holes])
    cost = torch.zeros(2, 4, dtype=torch.float64)
    numbers = SweepNumbers((UNSTEERED, "x"), benefit, cost, torch.ones(4, dtype=torch.long))
    assert numbers.means[1].tolist() == [0.0, 1.0]
    draws = numbers.draws(0)[1]
    assert set(draws[:, 1].tolist()) <= {0.0, 1.0}
    assert float((draws[:, 1] == 1).double().mean()) > 0.9


def test_t10_the_area_of_a_step_function():
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert float(area(COSTS[order], BENEFITS[order], 1.0)) == pytest.approx(0.582)
    # A cost below 0 is 0, and what lies behind the limit counts for nothing.
    assert float(area(torch.tensor([-0.2, 5.0]), torch.tensor([0.4, 9.0]), 2.0)) == pytest.approx(0.4)
    two = area(torch.stack([COSTS, COSTS]), torch.stack([BENEFITS, 2 * BENEFITS]), 1.0)
    torch.testing.assert_close(two, torch.tensor([0.582, 1.164], dtype=torch.float64))
    assert float(at_budget(COSTS, BENEFITS, 0.2)) == pytest.approx(0.3)
    assert frontier(COSTS.tolist(), BENEFITS.tolist()) == (0, 1, 3, 4, 5)


def numbers(benefits, costs, prompts=24, samples=4, rows=20, noise=0.0):
    """Cells with these means; the first is unsteered, then two of a and two of b."""
    generator = torch.Generator().manual_seed(0)
    methods = ("unsteered", "a", "a", "b", "b")
    shape = (len(benefits), prompts, samples)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    hits = (uniform < torch.tensor(benefits, dtype=torch.float64)[:, None, None]).double()
    tokens = torch.randint(10, 30, (rows,), generator=generator)
    wobble = 1 + noise * torch.randn(len(costs), rows, generator=generator, dtype=torch.float64)
    return SweepNumbers(methods, hits, torch.tensor(costs, dtype=torch.float64)[:, None] * tokens * wobble, tokens)


def test_a_method_that_is_better_at_every_cost_improves_and_a_like_one_does_not():
    found = numbers([0.0, 0.3, 0.4, 0.6, 0.9], [0.0, 0.08, 0.5, 0.08, 0.5])
    a, b = curves(found, "a")
    assert (a.method, a.cells, b.cells) == ("a", (0, 1, 2), (0, 3, 4))
    assert b.improves
    assert not a.improves
    assert b.difference.low > 0
    assert b.area.low < b.area.value < b.area.high
    own = found.benefit.mean(dim=(1, 2))[[0, 3, 4]]
    assert b.area.value == pytest.approx(float(area(torch.tensor([0, 0.08, 0.5]), own.float(), 1.0)), rel=1e-4)
    a, b = curves(numbers([0.0, 0.3, 0.4, 0.3, 0.4], [0.0, 0.08, 0.5, 0.08, 0.5]), "a")
    assert b.difference.low < 0 < b.difference.high
    assert not b.improves
    # A larger area alone is not enough: at 0.1 nats it is worse.
    a, b = curves(numbers([0.0, 0.5, 0.5, 0.0, 0.98], [0.0, 0.05, 0.5, 0.09, 0.2]), "a")
    assert b.difference.low > 0
    assert not b.improves


def test_intervals_are_as_wide_as_other_samples_differ():
    """The share of hits among 40 independent prompts is 0.5 +- 1.96 * sqrt(.25 / 40)."""
    generator = torch.Generator().manual_seed(1)
    hits = torch.zeros(3, 40, 1, dtype=torch.float64)
    hits[1:, torch.randperm(40, generator=generator)[:20]] = 1.0
    cost, tokens = torch.zeros(3, 10, dtype=torch.float64), torch.full((10,), 5)
    (found, other) = curves(SweepNumbers(("unsteered", "a", "b"), hits, cost, tokens), "a")
    assert found.area.value == 0.5
    assert found.area.high - found.area.low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.15)
    # The same prompts are drawn for both, so that equal methods differ by nothing.
    assert (other.difference.low, other.difference.high) == (0.0, 0.0)


def test_coefficients_are_chosen_on_the_first_half_and_reported_on_the_second():
    found = numbers([0.0, 0.3, 0.9, 0.2, 0.2], [0.0, 0.05, 0.5, 0.05, 0.5])
    found.benefit[1, ::2], found.benefit[1, 1::2] = 1.0, 0.25
    first, last = (next(one for one in curves(found, "a")[0].chosen if one.budget == budget) for budget in (0.1, 1.0))
    assert (first.cell, last.cell) == (1, 1)
    assert first.benefit.value == 0.25
    assert first.cost.value == pytest.approx(0.05)
    # Too dear a cell is not chosen, whatever it brings.
    dear = numbers([0.0, 0.9, 0.9, 0.2, 0.2], [0.0, 0.4, 0.5, 0.05, 0.5])
    chosen = curves(dear, "a")[0].chosen
    assert [one.cell for one in chosen][:2] == [0, 0]
    assert chosen[2].cell in (1, 2)


def test_what_has_no_halves_or_no_reference_is_refused():
    with pytest.raises(UsageError, match="one cell 'unsteered'"):
        SweepNumbers(("a", "b"), torch.zeros(2, 4, 1), torch.zeros(2, 4), torch.ones(4).long())
    few = SweepNumbers(("unsteered", "b"), torch.zeros(2, 1, 1), torch.zeros(2, 4), torch.ones(4).long())
    with pytest.raises(UsageError, match="at least 2 prompts"):
        curves(few, "b")
    with pytest.raises(UsageError, match="reference among a, b"):
        curves(numbers([0.0] * 5, [0.0] * 5), "c")
