"""Four published findings on what features make of a steering vector, asked of a sweep.

Google DeepMind's team steered GPT-2 XL along ActAdd's anger and wedding vectors and their features
("Progress update 1", Nanda et al. 2024): one feature does better than the vector, the vector's reconstruction slightly
worse, its obvious features alone much worse, and the vector without its irrelevant features better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.display import short_repr
from gossamer.statistics import Interval
from gossamer.steering.pareto import MethodCurve

# What was found, of which method, and which sign its area less the vector's has then.
_PUBLISHED = (
    ("one feature does better than the vector", "single_feature", 1),
    ("the reconstruction does worse", "reconstruction", -1),
    ("the obvious features alone do worse", "obvious_features", -1),
    ("without irrelevant features it does better", "cleaned", 1),
)


@dataclass(frozen=True)
class Finding:
    """One published finding, and what a sweep says to it.

    Attributes:
        claim: what was found.
        method: of which method.
        difference: of its area from the vector's; None where the sweep has no such method.
        verdict: "replicates" or "the opposite" where the interval of the difference is on one side of 0, else "not
            shown"; "no such method".
    """

    claim: str
    method: str
    difference: Interval | None
    verdict: str

    __repr__ = short_repr


def published_findings(curves: Sequence[MethodCurve]) -> list[Finding]:
    """Ask the curves of a sweep whose reference is the original vector."""
    by_name = {one.method: one.difference for one in curves}
    found = []
    for claim, method, sign in _PUBLISHED:
        difference = by_name.get(method)
        if difference is None:
            verdict = "no such method"
        elif difference.low <= 0 <= difference.high:
            verdict = "not shown"
        else:
            verdict = "replicates" if sign * difference.value > 0 else "the opposite"
        found.append(Finding(claim, method, difference, verdict))
    return found
