"""What becomes of features from one dictionary to the next: passed on, new, gone, lost in the error, dead, too rare."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from scipy.sparse.csgraph import min_weight_full_bipartite_matching  # type: ignore[import-untyped]

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.relations.error_share import ErrorShare
from gossamer.relations.measures import EXPLANATION_COSINE, Floats, Ints, support_needed
from gossamer.relations.relation import Relation
from gossamer.relations.sums import LatentSums

PASSED, NEW, GONE, LOST, DEAD, RARE = "passed on", "new", "gone", "lost in the error", "dead", "too rare to judge"
MATCHINGS = ("best", "hungarian", "mutual")
# Measures whose value is a share of a latent's activations, so that few of them decide nothing.
_SHARES = ("jaccard", "sufficiency", "necessity")


@dataclass(frozen=True)
class LifecycleSettings:
    """When a feature is passed on.

    Attributes:
        measure: by which latents are alike.
        threshold: from which on they are the same feature.
        matching: "best": a latent is passed on if its best partner is as alike, so that several may share one;
            "hungarian": one to one, of the largest sum of the measure over kept pairs; "mutual": one to one, each the
            other's best.
        lost: share of a gone feature's activation that the next dictionary's error holds, from which on it is lost.
    """

    measure: str = "pearson"
    threshold: float = 0.5
    matching: str = "best"
    lost: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.lost <= 0:
            raise UsageError(
                f"lifecycle: a threshold above 0 and at most 1, and a share above 0 expected, found "
                f"{self.threshold} and {self.lost}"
            )
        if self.matching not in MATCHINGS:
            raise UsageError(f"lifecycle: matching by {', '.join(MATCHINGS)} expected, found {self.matching!r}")


@dataclass(frozen=True)
class LifecycleCounts:
    """Latents of each class of one pair of dictionaries, as files have them.

    Attributes:
        upstream, downstream: names of the dictionaries.
        measure, threshold, matching: when a feature counts as passed on (:class:`LifecycleSettings`).
        ahead: upstream latents of each class, all of them; `behind`: downstream ones.
        error_known: whether it was asked what the next dictionary's error holds.
        chance: share of the judged upstream latents that shuffled documents pass on (by best partners); NaN: unknown.
    """

    upstream: str
    downstream: str
    measure: str
    threshold: float
    matching: str
    ahead: Mapping[str, int]
    behind: Mapping[str, int]
    error_known: bool = True
    chance: float = math.nan


@dataclass(frozen=True, eq=False)
class Lifecycle:
    """What becomes of the features of one pair of dictionaries.

    Attributes:
        upstream: the class of each upstream latent: passed on, gone, lost in the error, dead, too rare to judge.
        downstream: of each downstream latent: passed on, new, dead, too rare to judge.
        settings: when a feature is passed on.
        names: of the dictionaries.
        error_known: whether it was asked what the next dictionary's error holds; without, none are said to be lost.
        chance: share of the judged upstream latents that shuffled documents pass on (by best partners); NaN: unknown.
    """

    upstream: NDArray[Any]
    downstream: NDArray[Any]
    settings: LifecycleSettings
    names: tuple[str, str]
    error_known: bool = False
    chance: float = math.nan

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield ">".join(self.names)
        yield ", ".join(f"{count} {kind}" for kind, count in self.counts("upstream").items() if count)

    def counts(self, side: str) -> dict[str, int]:
        """Latents of each class, of all of one side ("upstream" or "downstream")."""
        upstream = (PASSED, GONE, LOST, DEAD, RARE) if self.error_known else (PASSED, GONE, DEAD, RARE)
        classes = upstream if side == "upstream" else (PASSED, NEW, DEAD, RARE)
        found = getattr(self, side)
        return {kind: int((found == kind).sum()) for kind in classes}

    @property
    def tally(self) -> LifecycleCounts:
        """The counts of both sides."""
        how, counts = self.settings, (self.counts("upstream"), self.counts("downstream"))
        asked = (*self.names, how.measure, how.threshold, how.matching)
        return LifecycleCounts(*asked, *counts, self.error_known, self.chance)

    def shares(self, side: str, *, judged: bool) -> dict[str, float]:
        """Share of each class, of all latents or of those that are neither dead nor too rare; 0 where there is none."""
        counts = self.counts(side)
        if judged:
            counts = {kind: count for kind, count in counts.items() if kind not in (DEAD, RARE)}
        total = sum(counts.values())
        return {kind: count / total if total else 0.0 for kind, count in counts.items()}


def lifecycle(
    relation: Relation, settings: LifecycleSettings | None = None, error: ErrorShare | None = None
) -> Lifecycle:
    """Classify the latents of both sides.

    A latent that was never active is dead. One that is active less often than `Keep.least`, or so rarely that the
    Wilson interval of a perfect share reaches below the threshold (measures that are shares), is too rare to judge. Of
    the others an upstream latent is passed on, or gone, or lost in the error where `error` says that the next
    dictionary's error holds it; a downstream one is passed on or new.

    Raises:
        UsageError: the measure is not of this relation, or one-to-one matching is asked for below what was kept.
    """
    settings = settings or LifecycleSettings()
    # What is said of latents is not what they do: alike explanations make no feature pass on.
    known = [name for name in relation.forward if name != EXPLANATION_COSINE]
    if settings.measure not in known:
        raise UsageError(f"lifecycle: one of {', '.join(known)} expected, found {settings.measure!r}")
    needed = relation.keep.least
    if settings.measure in _SHARES:
        needed = max(needed, support_needed(settings.threshold))
    passed = _passed(relation, settings)
    sides = []
    for found, sums, other in ((passed[0], relation.upstream, GONE), (passed[1], relation.downstream, NEW)):
        sides.append(_classes(found, sums, needed, other))
    if error is not None:
        sides[0][(sides[0] == GONE) & (error.share >= settings.lost)] = LOST
    names, chance = (relation.pair.upstream, relation.pair.downstream), math.nan
    if relation.null is not None and settings.measure in relation.null.forward:
        chance = lifecycle(relation.null, replace(settings, matching="best")).shares("upstream", judged=True)[PASSED]
    return Lifecycle(sides[0], sides[1], settings, names, error is not None, chance)


def _classes(passed: NDArray[np.bool_], sums: LatentSums, needed: int, other: str) -> NDArray[Any]:
    kinds = np.where(passed, PASSED, other).astype("<U20")
    kinds[sums.active < needed] = RARE
    kinds[sums.alive == 0] = DEAD
    return kinds


def _passed(relation: Relation, settings: LifecycleSettings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    forward, backward = relation.forward[settings.measure], relation.backward[settings.measure]
    ahead, back = (one.value >= settings.threshold for one in (forward, backward))
    if settings.matching == "best":
        return ahead, back
    if settings.matching == "mutual":
        mine = np.flatnonzero(ahead)
        mine = mine[backward.partner[forward.partner[mine]] == mine]
        pairs = mine, forward.partner[mine]
    else:
        pairs = matched(relation, settings.measure, settings.threshold)
    found = np.zeros(len(ahead), bool), np.zeros(len(back), bool)
    found[0][pairs[0]], found[1][pairs[1]] = True, True
    return found


def matched(relation: Relation, measure: str, threshold: float) -> tuple[Ints, Ints]:
    """The one-to-one matching of kept pairs of at least `threshold` with the largest sum of the measure (Hungarian).

    It knows kept pairs alone: exact where those were kept by this measure from a threshold that is no higher, else as
    good as `Keep.top` partners of each latent allow. Time and memory: sparse, about those of the kept pairs.
    """
    values = relation.values(measure)
    chosen = values >= threshold
    rows, columns, gain = relation.kept.i[chosen], relation.kept.j[chosen], values[chosen]
    own, i = np.unique(rows, return_inverse=True)
    others, j = np.unique(columns, return_inverse=True)
    if not len(own):
        return own, others
    # A column of its own for every row, worth next to nothing: it may stay without a partner.
    alone = np.arange(len(own))
    parts = (np.r_[gain, np.full(len(own), 1e-9)], (np.r_[i, alone], np.r_[j, len(others) + alone]))
    graph = sparse.csr_matrix(parts, shape=(len(own), len(others) + len(own)))
    left, right = min_weight_full_bipartite_matching(graph, maximize=True)
    real = right < len(others)
    return own[left[real]], others[right[real]]


@dataclass(frozen=True, eq=False)
class ThresholdSweep:
    """How many latents have a partner at least so alike, for each threshold.

    Attributes:
        measure: by which.
        thresholds: 100 of them, from 0.01 to 1.
        forward, backward: judged latents upstream, and downstream, whose best partner reaches the threshold.
        judged: latents with enough support, upstream and downstream.
        null_forward, null_backward: what shuffled documents give; None without a null.
    """

    measure: str
    thresholds: Floats
    forward: Ints
    backward: Ints
    judged: tuple[int, int]
    null_forward: Ints | None
    null_backward: Ints | None


def threshold_sweep(relation: Relation, measure: str) -> ThresholdSweep:
    """Of both sides of a relation; latents below `Keep.least` are left out, and those without a text where explanations
    are compared (:func:`gossamer.relations.with_explanations`)."""
    grid = np.linspace(0.01, 1, 100)
    sides = ((relation.forward, relation.upstream), (relation.backward, relation.downstream))
    judged = [sums.active >= relation.keep.least for _, sums in sides]
    if measure == EXPLANATION_COSINE:
        judged = [own & (best[measure].partner >= 0) for own, (best, _) in zip(judged, sides, strict=True)]
    # A copy's value may fall short of 1 by rounding.
    reached = [_reaching(best[measure].value[own], grid) for (best, _), own in zip(sides, judged, strict=True)]
    null: list[Ints | None] = [None, None]
    if relation.null is not None and measure in relation.null.forward:
        chance = (relation.null.forward, relation.null.backward)
        null = [_reaching(best[measure].value[own], grid) for best, own in zip(chance, judged, strict=True)]
    return ThresholdSweep(measure, grid, reached[0], reached[1], (int(judged[0].sum()), int(judged[1].sum())), *null)


def _reaching(values: Floats, grid: Floats) -> Ints:
    return len(values) - np.searchsorted(np.sort(values) + 1e-12, grid)


@dataclass(frozen=True)
class SankeyData:
    """Ribbons of a chain of dictionaries.

    Attributes:
        names: of the dictionaries, in order.
        sizes: their latents.
        ahead: classes of each pair's upstream latents, with their numbers: what leaves a dictionary.
        behind: classes of each pair's downstream latents: what enters the next one.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    ahead: tuple[Mapping[str, int], ...] = field(default_factory=tuple)
    behind: tuple[Mapping[str, int], ...] = field(default_factory=tuple)


def sankey(chain: Sequence[Lifecycle | LifecycleCounts]) -> SankeyData:
    """From the lifecycles of pairs, each beginning where the one before ends.

    Raises:
        UsageError: none, or they are no chain.
    """
    counts = [one.tally if isinstance(one, Lifecycle) else one for one in chain]
    if not counts or any(one.downstream != other.upstream for one, other in pairwise(counts)):
        found = ", ".join(f"{one.upstream}>{one.downstream}" for one in counts) or "none"
        raise UsageError(f"sankey: pairs of which each begins where the one before ends expected, found {found}")
    names = (counts[0].upstream, *(one.downstream for one in counts))
    ahead, behind = tuple(one.ahead for one in counts), tuple(one.behind for one in counts)
    sizes = (sum(ahead[0].values()), *(sum(one.values()) for one in behind))
    return SankeyData(names, sizes, ahead, behind)
