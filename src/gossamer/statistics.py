"""Measured values with how far chance could have moved them, for every room that reports one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gossamer.display import short_repr

# Of a 95 % interval.
Z = 1.959963984540054

Numbers = NDArray[np.float64] | NDArray[np.int64] | float | int


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.value:.3g}, {self.low:.3g} to {self.high:.3g}"

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: Numbers, trials: Numbers, z: float = Z) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The Wilson score interval (Wilson 1927) of proportions; (0, 1) of no trial. It takes trials as independent."""
    k, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    safe = np.where(n > 0, n, 1)
    share, shrink = k / safe, 1 + z**2 / safe
    middle = (share + z**2 / (2 * safe)) / shrink
    half = z * np.sqrt(np.maximum(share * (1 - share), 0) / safe + z**2 / (4 * safe**2)) / shrink
    return np.where(n > 0, np.clip(middle - half, 0, 1), 0.0), np.where(n > 0, np.clip(middle + half, 0, 1), 1.0)


@dataclass(frozen=True)
class QuantileBounds:
    """Two of a sample's own values between which a quantile of the distribution lies, whatever the distribution is.

    Attributes:
        low, high: the values; None where a sample of this size has none on that side.
        coverage: with which probability the quantile lies between them; without one, on the open side anywhere.
        needed: the smallest sample that bounds the quantile on both sides.
    """

    low: float | None
    high: float | None
    coverage: float
    needed: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self}, coverage {self.coverage:.3f}"

    def __str__(self) -> str:
        low, high = ("none" if end is None else f"{end:.3f}" for end in (self.low, self.high))
        few = f" (needs {self.needed} values)" if None in (self.low, self.high) else ""
        return f"[{low}, {high}]{few}"


def quantile_bounds(values: Sequence[float], share: float, error: float = 0.05) -> QuantileBounds:
    """Bounds of the `share` quantile from the order statistics of independent values, `error` / 2 on either side.

    The number of values at most the quantile is binomial: the j-th smallest is above the quantile with probability
    P(Bin(n, share) < j), and the k-th smallest at most at it with probability P(Bin(n, share) >= k).
    Source: order-statistic confidence intervals, e.g. Hahn & Meeker 1991, section 5.2.
    """
    from scipy.stats import binom  # type: ignore[import-untyped]

    rising, n, tail = np.sort(np.asarray(values, dtype=np.float64)), len(values), error / 2
    places = np.arange(1, n + 1)
    below = places[binom.cdf(places - 1, n, share) <= tail]
    above = places[binom.sf(places - 1, n, share) <= tail]
    first, last = (int(below[-1]) if len(below) else 0), (int(above[0]) if len(above) else n + 1)
    return QuantileBounds(
        float(rising[first - 1]) if first else None,
        float(rising[last - 1]) if last <= n else None,
        float(binom.cdf(last - 1, n, share) - (binom.cdf(first - 1, n, share) if first else 0)),
        math.ceil(max(math.log(tail) / math.log(share), math.log(tail) / math.log(1 - share))),
    )


def student_half(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """Half of Student's 95 % interval of the mean of values; None of one value."""
    # Loaded here: most of what needs this module needs no quantiles.
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    found = np.asarray(values, dtype=np.float64)
    if len(found) == 1:
        return None
    return float(stdtrit(len(found) - 1, 0.975) / len(found) ** 0.5 * found.std(ddof=1))


def jackknife_of_pairs(values: Sequence[Sequence[float]] | NDArray[np.float64]) -> Interval | None:
    """Mean of a symmetric matrix over the pairs of different items, with its 95 % interval; None without a pair.

    The interval is the jackknife's over items (leave one out with all of its pairs), with Student's quantile: pairs
    that share an item are not independent, so that their own spread says too little. It is NaN for one pair alone.
    Source: Tukey 1958; Efron & Stein 1981.
    """
    from scipy.special import stdtrit

    matrix = np.asarray(values, dtype=np.float64)
    n = len(matrix)
    if n < 2:
        return None
    total = (matrix.sum() - np.trace(matrix)) / 2
    mean = float(total / (n * (n - 1) / 2))
    if n == 2:
        return Interval(mean, math.nan, math.nan)
    without = (total - (matrix.sum(axis=1) - np.diagonal(matrix))) / ((n - 1) * (n - 2) / 2)
    half = float(stdtrit(n - 1, 0.975) * np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    return Interval(mean, mean - half, mean + half)


def newcombe(area: float, positives: int, negatives: int) -> Interval:
    """An AUROC of so many of each kind with its 95 % interval (Newcombe 2006, method 5)."""
    return Interval(area, _end(area, positives, negatives, -1), _end(area, positives, negatives, +1))


def _end(value: float, m: int, n: int, side: int) -> float:
    """Where the value lies 1.96 standard errors off, the error being that of the end itself; found by bisection."""
    near, far = value, 0.0 if side < 0 else 1.0
    for _ in range(60):
        middle = (near + far) / 2
        others = (m + n) / 2 - 1
        spread = 1 + others * ((1 - middle) / (2 - middle) + middle / (1 + middle))
        error = math.sqrt(middle * (1 - middle) * spread / (m * n))
        near, far = (middle, far) if abs(middle - value) < Z * error else (near, middle)
    return (near + far) / 2


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """How often a positive's score is above a negative's, ties counting half; NaN where one of the two is empty.

    One sort: no pair is made.
    """
    if not len(positives) or not len(negatives):
        return math.nan
    high, low = np.asarray(positives, dtype=np.float64), np.sort(np.asarray(negatives, dtype=np.float64))
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.sum()) / 2 / len(high) / len(low)
