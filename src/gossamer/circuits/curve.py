"""Faithfulness by size: circuits of one method, and beside those of another."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.display import plural, short_repr
from gossamer.statistics import Interval

# Of three digits: rounding is no difference.
_ROUNDING = 0.0005


@dataclass(frozen=True)
class CurvePoint:
    """One circuit of a size-faithfulness curve. `size` counts nodes, `unique_latents` their distinct features."""

    size: int
    unique_latents: int
    task_metrics: TaskMetrics

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.size, "node")
        yield f"faithfulness {self.task_metrics.faithfulness.value:.3g}"


@dataclass(frozen=True)
class Curve:
    """Circuits of one method from large to small, the time all of them took together, and the areas of the peers.

    Attributes:
        method: name of the method.
        points: by falling size.
        seconds: wall-clock time to all scores and circuits of the curve (evaluation not counted).
        cpr: area under MIB's faithfulness over the share of the study's candidates that is kept (larger is better). MIB
            subtracts the empty circuit, (m(C) - m(empty)) / (m(full) - m(empty)); `TaskMetrics.faithfulness` does not.
        cmd: area of |1 - MIB's faithfulness| over the same axis (smaller is better).
    """

    method: str
    points: tuple[CurvePoint, ...]
    seconds: float
    cpr: float
    cmd: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.method
        if self.points:
            yield f"{plural(len(self.points), 'circuit')} of {self.points[0].size} to {self.points[-1].size} nodes"
        yield f"CPR {self.cpr:.3g}, CMD {self.cmd:.3g}"
        yield f"{self.seconds:.3g} s"


@dataclass(frozen=True)
class SizeComparison:
    """Our circuit beside the best that one family of baselines has at a size: which is closer to the full model.

    Closeness is 1 - |1 - faithfulness|. The family's best is chosen on the very prompts that are compared on: it is an
    upper bound on what a family would be chosen to do.

    Attributes:
        size: nodes that the baseline has.
        nodes: nodes of ours: the same, or the largest circuit that is no larger.
        family: the score that the baseline ranks by, whatever its thresholds and sign; `method` is the best of them.
        ours, theirs: closeness.
        difference: ours less theirs, with the interval over prompts, paired.
    """

    size: int
    nodes: int
    family: str
    method: str
    ours: float
    theirs: float
    difference: Interval

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(self.size, 'node')}, {self.method}"
        yield f"difference {self.difference}"

    @property
    def behind(self) -> bool:
        """Whether ours is further from the full model, by point value."""
        return self.difference.value < -_ROUNDING

    @property
    def significantly_behind(self) -> bool:
        """Whether it is so beyond the interval."""
        return self.difference.high < 0


def best_baseline(comparisons: Sequence[SizeComparison]) -> list[SizeComparison]:
    """At each size only the baseline that does best there, by falling size."""
    best: dict[int, SizeComparison] = {}
    for one in comparisons:
        if one.size not in best or one.theirs > best[one.size].theirs:
            best[one.size] = one
    return [best[size] for size in sorted(best, reverse=True)]


class MethodCount(NamedTuple):
    """In how many of its `rows` one method is `behind` the best of all others, by point value."""

    method: str
    rows: int
    behind: int


def behind_the_rest(curves: Sequence[Curve], sizes: Collection[int]) -> tuple[MethodCount, ...]:
    """Every method held against the best of all others, as ours is against the best baseline: what the count is worth.

    The best of a dozen is chosen on the very prompts that are compared on. Of methods that are equally good each is
    behind it nearly always; only one that is better by more than the prompts' noise never is.

    Args:
        curves: ours first: at each size its largest circuit that is no larger. Others count where they have the size.
        sizes: the sizes that count.
    """
    missed: dict[int, dict[str, float]] = {}
    for size in sizes:
        own = next((point for point in curves[0].points if point.size <= size), None)
        here = [(curve.method, point) for curve in curves[1:] for point in curve.points if point.size == size]
        here += [] if own is None else [(curves[0].method, own)]
        missed[size] = {method: abs(1 - point.task_metrics.faithfulness.value) for method, point in here}
    found = []
    for curve in curves:
        gaps = [
            min(one for method, one in here.items() if method != curve.method) - here[curve.method]
            for here in missed.values()
            if curve.method in here and len(here) > 1
        ]
        found.append(MethodCount(curve.method, len(gaps), sum(gap < -_ROUNDING for gap in gaps)))
    return tuple(found)
