"""Faithfulness by size: circuits of one method, and beside those of another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.display import plural, short_repr
from gossamer.statistics import Interval


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
        """Whether ours is further from the full model, by point value (of three digits: rounding is no difference)."""
        return self.difference.value < -0.0005

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
