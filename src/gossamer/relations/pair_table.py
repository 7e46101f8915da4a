"""Two latents at the same tokens: how often which of them is active, and what follows from it with intervals."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.relations.measures import MEASURES, pearson_interval
from gossamer.relations.relation import Relation
from gossamer.statistics import Interval, Z, wilson


@dataclass(frozen=True)
class PairTable:
    """The 2 x 2 table of two latents.

    Intervals are of 95 % and take tokens as independent, which neighbours in a text are not: true ones are wider.

    Attributes:
        tokens: counted.
        both, upstream_only, downstream_only, neither: tokens at which these are active.
        phi: correlation of the two activities; its interval by the delta method.
        lift: P(both) / (P(upstream) P(downstream)): 1 by chance; its logarithm's interval by the delta method.
        measures: by name, those that the relation has; with Wilson's interval where it is a share, with
            :func:`pearson_interval` where it is that, else NaN.
    """

    tokens: int
    both: int
    upstream_only: int
    downstream_only: int
    neither: int
    phi: Interval
    lift: Interval
    measures: Mapping[str, Interval]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"both active at {self.both:,} of {self.tokens:,} tokens"
        yield f"phi {self.phi}"
        yield f"lift {self.lift}"


def pair_table(relation: Relation, upstream: int, downstream: int) -> PairTable:
    """The table of a kept pair.

    Raises:
        UsageError: no such latents, or the pair was not kept: its counts are not known.
    """
    sides = (relation.upstream, relation.downstream)
    for latent, side, name in zip((upstream, downstream), sides, relation.pair, strict=True):
        if not 0 <= latent < len(side.active):
            raise UsageError(f"{name}/{latent}: a latent from 0 to {len(side.active) - 1} expected")
    kept = relation.kept[(relation.kept.i == upstream) & (relation.kept.j == downstream)]
    if not len(kept):
        raise UsageError(
            f"{relation.pair}: {upstream} and {downstream} are not among the {len(relation.kept):,} kept pairs: their "
            "common tokens are not known; relate with a larger --top"
        )
    counts = relation.counts(kept)
    n, m, c, tokens = int(counts.n[0]), int(counts.m[0]), int(counts.c[0]), relation.tokens
    shares = {"jaccard": n + m - c, "sufficiency": n, "necessity": m}
    measures = {}
    for name in (one for one in MEASURES if one in relation.forward):
        value = float(MEASURES[name](counts)[0])
        low, high = (math.nan, math.nan)
        if name in shares:
            low, high = (float(end) for end in wilson(c, shares[name]))
        elif name == "pearson":
            low, high = (float(end[0]) for end in pearson_interval(counts))
        measures[name] = Interval(value, low, high)
    return PairTable(
        tokens, c, n - c, m - c, tokens - n - m + c, _phi(n, m, c, tokens), _lift(n, m, c, tokens), measures
    )


def _phi(n: int, m: int, c: int, tokens: int) -> Interval:
    spread = math.sqrt(n * (tokens - n)) * math.sqrt(m * (tokens - m))
    if not spread:
        return Interval(math.nan, math.nan, math.nan)
    value = (tokens * c - n * m) / spread
    # Bishop, Fienberg and Holland 1975, chapter 11; Fisher's transformation is for normal variables, and too narrow.
    first, second = (2 * n - tokens) ** 2 / (n * (tokens - n)), (2 * m - tokens) ** 2 / (m * (tokens - m))
    skew = (2 * n - tokens) * (2 * m - tokens) / spread
    variance = 1 - value**2 + value * (1 + value**2 / 2) * skew - 0.75 * value**2 * (first + second)
    half = Z * math.sqrt(max(variance, 0.0) / tokens)
    return Interval(value, max(value - half, -1.0), min(value + half, 1.0))


def _lift(n: int, m: int, c: int, tokens: int) -> Interval:
    if not n or not m:
        return Interval(math.nan, math.nan, math.nan)
    value = c * tokens / (n * m)
    if not c:
        return Interval(value, 0.0, math.nan)
    half = Z * math.sqrt(max(1 / c - 1 / n - 1 / m + (2 * value - 1) / tokens, 0.0))
    return Interval(value, value * math.exp(-half), value * math.exp(half))
