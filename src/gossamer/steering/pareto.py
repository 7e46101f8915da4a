"""What a sweep says: benefit at every cost, the area under it with an interval, and coefficients that were not chosen
on what they are reported on.

Cost is on the x axis, so that a method that breaks the model gains nothing by it. The curve of a method is the best
benefit of any of its coefficients, the unsteered model among them, at a cost of at most K; its area is the mean of that
over K from 0 to `limit`. Intervals are of a bootstrap over prompts, samples and rows of neutral text at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.statistics import Interval
from gossamer.tasks.bootstrap import sampled

UNSTEERED = "unsteered"
BUDGETS = (0.1, 0.3, 1.0)


def area(
    costs: Float[Tensor, "*draws points"], benefits: Float[Tensor, "*draws points"], limit: float
) -> Float[Tensor, "*draws"]:
    """(1 / limit) integral from 0 to `limit` of the largest benefit at cost <= K, a step function; 0 before the first
    point. Costs below 0, which chance makes, count as 0.
    """
    ordered, order = costs.clamp(min=0).sort(dim=-1, stable=True)
    best = benefits.gather(-1, order).cummax(dim=-1).values
    edges = torch.cat([ordered, torch.full_like(ordered[..., :1], torch.inf)], dim=-1).clamp(max=limit)
    return (best * edges.diff(dim=-1)).sum(dim=-1) / limit


def at_budget(
    costs: Float[Tensor, "*draws points"], benefits: Float[Tensor, "*draws points"], budget: float
) -> Float[Tensor, "*draws"]:
    """The largest benefit of a point whose cost is at most `budget`; 0 where there is none."""
    return torch.where(costs <= budget, benefits, 0.0).amax(dim=-1)


@dataclass(frozen=True)
class ChosenCoefficient:
    """What one method reaches at a budget: its coefficient is chosen on one half of prompts and rows, by benefit among
    those whose cost there is within the budget, and reported on the other half.

    Attributes:
        budget: most cost, nats a token of cross-entropy.
        cell: place of the chosen cell in the sweep.
        benefit, cost: on the other half.
    """

    budget: float
    cell: int
    benefit: Interval
    cost: Interval


@dataclass(frozen=True)
class MethodCurve:
    """One method of a sweep.

    Attributes:
        method: its name.
        cells: places of its cells in the sweep, the unsteered one first.
        costs, benefits: of these cells, on everything.
        frontier: places in `cells` of those that no other cell of the method beats in both.
        area: under its curve.
        difference: of that area from the reference method's.
        chosen: at each budget.
        improves: whether it improves on the reference: the interval of the difference is above 0, and its benefit is
            not smaller at any budget.
    """

    method: str
    cells: tuple[int, ...]
    costs: tuple[float, ...]
    benefits: tuple[float, ...]
    frontier: tuple[int, ...]
    area: Interval
    difference: Interval
    chosen: tuple[ChosenCoefficient, ...]
    improves: bool

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.method
        yield f"area {self.area!r}"
        yield plural(len(self.cells), "cell")


@dataclass(frozen=True, eq=False)
class SweepNumbers:
    """The numbers of a sweep by cell.

    Attributes:
        methods: method of each cell; one cell is `UNSTEERED`.
        benefit: of each prompt and sample; NaN where it is not known, as where a judge's answer could not be read: such
            completions are left out of means.
        cost: of each row of neutral text, a sum over its tokens.
        tokens: predicted tokens of each row.
    """

    methods: tuple[str, ...]
    benefit: Float[Tensor, "cells prompts samples"]
    cost: Float[Tensor, "cells rows"]
    tokens: Int[Tensor, "rows"]

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.methods.count(UNSTEERED) != 1:
            raise UsageError(f"sweep: one cell {UNSTEERED!r} expected, found {self.methods.count(UNSTEERED)}")

    def draws(self, seed: int) -> tuple[Float[Tensor, "draw cells"], Float[Tensor, "draw cells"]]:
        """Cost and benefit of every cell in each bootstrap sample."""
        return self._cost(_counts(len(self.tokens), seed)), self._benefit(
            _counts(self.benefit.shape[1], seed + 1), _counts(self.benefit.shape[2], seed + 2)
        )

    @cached_property
    def means(self) -> tuple[Float[Tensor, "cells"], Float[Tensor, "cells"]]:
        """Cost a token and benefit of every cell."""
        cost, benefit = (_whole(size) for size in (len(self.tokens), self.benefit.shape[1]))
        return self._cost(cost)[0], self._benefit(benefit, _whole(self.benefit.shape[2]))[0]

    def half(self, second: bool) -> "SweepNumbers":
        """Every other prompt and row of neutral text, from the first or the second on."""
        first = int(second)
        return SweepNumbers(self.methods, self.benefit[:, first::2], self.cost[:, first::2], self.tokens[first::2])

    def _cost(self, rows: Float[Tensor, "draw rows"]) -> Float[Tensor, "draw cells"]:
        return (rows @ self.cost.T) / (rows @ self.tokens.double())[:, None]

    def _benefit(
        self, prompts: Float[Tensor, "draw prompts"], samples: Float[Tensor, "draw samples"]
    ) -> Float[Tensor, "draw cells"]:
        known = ~self.benefit.isnan()
        total, count = (
            torch.einsum("cps,rp,rs->rc", values, prompts, samples)
            for values in (self.benefit.nan_to_num(), known.double())
        )
        return total / count.clamp(min=1)


def _counts(size: int, seed: int) -> Float[Tensor, "draw size"]:
    return sampled(torch.arange(size), torch.zeros(size, dtype=torch.long), seed)


def _whole(size: int) -> Float[Tensor, "one size"]:
    return torch.ones(1, size, dtype=torch.float64)


def curves(
    numbers: SweepNumbers,
    reference: str,
    *,
    limit: float = 1.0,
    budgets: Sequence[float] = BUDGETS,
    seed: int = 0,
) -> list[MethodCurve]:
    """The curve of every method, in the order of their first cells, with intervals of 1,000 resamples.

    Args:
        reference: the method that the others are held against.
        limit: largest cost of the area, in nats a token.
        budgets: costs at which coefficients are chosen.

    Raises:
        UsageError: there is no such reference method, or no budget.
    """
    names = [name for name in dict.fromkeys(numbers.methods) if name != UNSTEERED]
    if reference not in names or not budgets or not limit > 0:
        raise UsageError(f"sweep: a reference among {', '.join(names)} and a budget expected, found {reference!r}")
    if numbers.benefit.shape[1] < 2 or len(numbers.tokens) < 2:
        raise UsageError(
            f"sweep: at least 2 prompts and 2 rows of neutral text expected, as one half chooses the coefficient; "
            f"found {numbers.benefit.shape[1]} and {len(numbers.tokens)}"
        )
    own = numbers.methods.index(UNSTEERED)
    members = {name: (own, *_places(numbers.methods, name)) for name in names}
    draws, means = numbers.draws(seed), numbers.means
    areas = {name: _areas(draws, cells, limit) for name, cells in members.items()}
    wholes = {name: float(_areas((means[0][None], means[1][None]), cells, limit)) for name, cells in members.items()}
    choosing, reported = numbers.half(second=False), numbers.half(second=True)
    shown = reported.draws(seed)
    found = []
    for name, cells in members.items():
        costs, benefits = (values[list(cells)] for values in means)
        chosen = tuple(_chosen(choosing, reported, shown, cells, budget) for budget in budgets)
        theirs = tuple(values[list(members[reference])] for values in means)
        whole, apart = (
            interval_of(wholes[name], areas[name]),
            interval_of(wholes[name] - wholes[reference], areas[name] - areas[reference]),
        )
        never_below = all(at_budget(costs, benefits, one) >= at_budget(theirs[0], theirs[1], one) for one in budgets)
        found.append(
            MethodCurve(
                name,
                cells,
                tuple(costs.tolist()),
                tuple(benefits.tolist()),
                frontier(costs.tolist(), benefits.tolist()),
                whole,
                apart,
                chosen,
                apart.low > 0 and bool(never_below),
            )
        )
    return found


def frontier(costs: Sequence[float], benefits: Sequence[float]) -> tuple[int, ...]:
    """Places of the points that no other point beats: none has as low a cost and a larger benefit; by rising cost."""
    kept: list[int] = []
    for place in sorted(range(len(costs)), key=lambda one: (costs[one], -benefits[one])):
        if not kept or benefits[place] > benefits[kept[-1]]:
            kept.append(place)
    return tuple(kept)


def _places(methods: Sequence[str], name: str) -> list[int]:
    return [place for place, method in enumerate(methods) if method == name]


def _areas(draws: tuple[Tensor, Tensor], cells: Sequence[int], limit: float) -> Float[Tensor, "draw"]:
    costs, benefits = (values[:, list(cells)] for values in draws)
    return area(costs, benefits, limit)


def interval_of(value: float, draws: Float[Tensor, "draw"]) -> Interval:
    """A value with the 2.5 and 97.5 % quantiles of its bootstrap."""
    low, high = torch.quantile(draws.double(), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)


def _chosen(
    choosing: SweepNumbers,
    reported: SweepNumbers,
    shown: tuple[Float[Tensor, "draw cells"], Float[Tensor, "draw cells"]],
    cells: Sequence[int],
    budget: float,
) -> ChosenCoefficient:
    costs, benefits = (values[list(cells)] for values in choosing.means)
    # The unsteered cell costs nothing, so that there always is one within the budget.
    cell = cells[int(torch.where(costs <= budget, benefits, -torch.inf).argmax())]
    cost, benefit = (
        interval_of(float(mean[cell]), draws[:, cell]) for mean, draws in zip(reported.means, shown, strict=True)
    )
    return ChosenCoefficient(budget, cell, benefit, cost)
