"""What two dictionaries have to do with each other: kept pairs of latents, the best partner of each, and the null."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.relations.counting import SitePair
from gossamer.relations.measures import DECODER_COSINE, MEASURES, Floats, Ints, PairCounts
from gossamer.relations.sums import LatentSums, PairSums

# Stored entries of the rows that are looked at together.
_BLOCK_ENTRIES = 2**19
# Of the histograms over all pairs, from 0 to the largest value that a measure can have.
BINS = 1000
# Measures that are another one, seen from downstream.
_OTHER_WAY = {"sufficiency": "necessity", "necessity": "sufficiency"}
LARGEST = {"mutual_information": float(np.log(2))}


@dataclass(frozen=True)
class Keep:
    """Which pairs are kept, of those with enough support.

    Attributes:
        by: the measures by which they are chosen; a pair that one of them chooses is kept.
        top: best partners of each latent, each way.
        threshold: every pair of at least this value instead; None: by `top`.
        least: activations that both latents must have: partners of fewer are too rare to judge.
    """

    by: tuple[str, ...] = ("jaccard", "sufficiency", "necessity")
    top: int = 8
    threshold: float | None = None
    least: int = 10

    def __post_init__(self) -> None:
        if unknown := [one for one in self.by if one not in MEASURES]:
            raise UsageError(f"keep: measures {', '.join(MEASURES)} expected, found {unknown[0]!r}")
        if not self.by or self.top < 1 or self.least < 1:
            raise UsageError(f"keep: a measure, top and least of at least 1 expected, found {self}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(f"keep: a threshold above 0 and at most 1 expected, found {self.threshold}")


@dataclass(frozen=True, eq=False)
class RelatedPairs:
    """Pairs of latents with their counts, sorted by i and then j; 24 bytes each, and 8 with decoder cosines.

    Attributes:
        i, j: numbers of the upstream and the downstream latent.
        c: tokens at which both are active.
        products: sum of their activations' products (0 where they were not summed).
        decoder_cosine: of their decoder rows, once it is known.
    """

    i: Ints
    j: Ints
    c: Ints
    products: Floats
    decoder_cosine: Floats | None = None

    def __len__(self) -> int:
        return len(self.i)

    def __getitem__(self, chosen: NDArray[Any]) -> "RelatedPairs":
        cosines = None if self.decoder_cosine is None else self.decoder_cosine[chosen]
        return RelatedPairs(self.i[chosen], self.j[chosen], self.c[chosen], self.products[chosen], cosines)

    @staticmethod
    def concatenate(parts: Sequence["RelatedPairs"]) -> "RelatedPairs":
        """All of them, in order."""
        return RelatedPairs(
            *(np.concatenate([getattr(one, name) for one in parts]) for name in ("i", "j", "c", "products"))
        )


@dataclass(frozen=True, eq=False)
class BestPartner:
    """The largest value of a measure for each latent of one side, and whose it is; -1 and 0 where there is none."""

    value: Floats
    partner: Ints


@dataclass(frozen=True, eq=False)
class Relation:
    """One pair of dictionaries.

    Attributes:
        pair: their names.
        tokens: tokens counted.
        upstream, downstream: what each latent did.
        keep: which pairs were kept.
        kept: those pairs.
        forward, backward: the best partner of each upstream latent, and of each downstream one, over all pairs with
            enough support, by measure.
        histograms: of all pairs with enough support by measure, `BINS` bins up to the measure's largest value.
        null: the same relation of shuffled documents, of which no pairs are kept; None: it was left out.
        provenance: what is known of how it was counted: all that the counts depend on, and versions.
    """

    pair: SitePair
    tokens: int
    upstream: LatentSums
    downstream: LatentSums
    keep: Keep
    kept: RelatedPairs
    forward: Mapping[str, BestPartner]
    backward: Mapping[str, BestPartner]
    histograms: Mapping[str, Ints]
    null: "Relation | None" = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.pair)
        yield f"{plural(self.tokens, 'token')}, {plural(len(self.kept), 'kept pair')}"

    @classmethod
    def of(
        cls,
        pair: SitePair,
        sums: PairSums,
        upstream: LatentSums,
        downstream: LatentSums,
        keep: Keep,
        *,
        null: "Relation | None" = None,
        only_best: bool = False,
    ) -> "Relation":
        """From finished sums, block of rows by block of rows.

        Memory: blocks of about 2**19 entries, and what is kept: at most 2 * top * (n + m) pairs a measure of `keep.by`.
        """
        measures = [name for name in MEASURES if sums.products is not None or name not in ("cosine", "pearson")]
        found = _Finder(measures, keep, upstream, downstream, sums.tokens, only_best)
        for start, stop in _blocks(sums):
            pairs = _entries(sums, start, stop)
            found.look_at(pairs[pairs.i != pairs.j] if pair.upstream == pair.downstream else pairs)
        best, kept = found.best, found.kept()
        forward, backward = ({name: best[name][side] for name in measures} for side in (0, 1))
        return cls(pair, sums.tokens, upstream, downstream, keep, kept, forward, backward, found.histograms, null)

    def counts(self, pairs: RelatedPairs) -> PairCounts:
        """The counts and sums of some pairs."""
        return _counts(pairs, self.upstream, self.downstream, self.tokens)

    def values(self, measure: str, pairs: RelatedPairs | None = None) -> Floats:
        """A measure of some pairs, by default of those that are kept.

        Raises:
            UsageError: it is unknown, or was not measured here.
        """
        chosen = self.kept if pairs is None else pairs
        if measure == DECODER_COSINE and chosen.decoder_cosine is not None:
            return chosen.decoder_cosine
        if measure not in self.forward or measure not in MEASURES:
            known = ", ".join(name for name in self.forward if name in MEASURES)
            raise UsageError(f"{self.pair}: one of {known} expected, found {measure!r}")
        return MEASURES[measure](self.counts(chosen))

    def with_decoders(self, upstream: Floats, downstream: Floats) -> "Relation":
        """The same with decoder cosines of the kept pairs, and the best partner by them over all latents.

        Memory: 2**22 cosines at a time.

        Args:
            upstream, downstream: decoder rows (n, d) that write into the same space.

        Raises:
            UsageError: rows of different widths.
        """
        if upstream.shape[1] != downstream.shape[1]:
            raise UsageError(
                f"{self.pair}: decoders of one width expected, found {upstream.shape[1]} and {downstream.shape[1]}"
            )
        rows, columns = (
            one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-30) for one in (upstream, downstream)
        )
        cosines = np.einsum("ed,ed->e", rows[self.kept.i], columns[self.kept.j])
        itself = self.pair.upstream == self.pair.downstream
        forward, backward = _best_cosines(rows, columns, itself), _best_cosines(columns, rows, itself)
        return replace(
            self,
            kept=replace(self.kept, decoder_cosine=cosines),
            forward={**self.forward, DECODER_COSINE: forward},
            backward={**self.backward, DECODER_COSINE: backward},
        )

    def reversed(self) -> "Relation":
        """The same counts read the other way: as if the downstream dictionary were upstream."""
        kept, null = self.kept, None if self.null is None else self.null.reversed()
        order = np.lexsort((kept.i, kept.j))
        turned = RelatedPairs(kept.j, kept.i, kept.c, kept.products, kept.decoder_cosine)[order]
        forward, backward = (
            {_OTHER_WAY.get(name, name): one for name, one in found.items()} for found in (self.backward, self.forward)
        )
        histograms = {_OTHER_WAY.get(name, name): one for name, one in self.histograms.items()}
        pair, sides = SitePair(self.pair.downstream, self.pair.upstream), (self.downstream, self.upstream)
        return Relation(pair, self.tokens, *sides, self.keep, turned, forward, backward, histograms, null)

    def null_threshold(self, measure: str, false_share: float = 0.01) -> float:
        """The value that the best partner of at most this share of the judged upstream latents reaches by chance.

        Raises:
            UsageError: the null was left out, or a share outside 0 to 1.
        """
        null = self._with_null(measure, false_share)
        judged = null.upstream.active >= self.keep.least
        values = np.sort(null.forward[measure].value[judged])
        if not len(values):
            raise UsageError(
                f"{self.pair}: no latent is active at {self.keep.least} tokens of the null; give more text"
            )
        allowed = int(false_share * len(values))
        return float(np.nextafter(values[len(values) - 1 - allowed], np.inf))

    def edge_threshold(self, measure: str, false_share: float = 0.05) -> float:
        """The smallest value from which on at most this share of the pairs is expected by chance, from histograms of
        all pairs (an edge of a bin, 1/1000 of the measure's range); the end of the range where there is none.

        Raises:
            UsageError: the null was left out, or a share outside 0 to 1.
        """
        null = self._with_null(measure, false_share)
        real, chance = (np.cumsum(one.histograms[measure][::-1])[::-1] for one in (self, null))
        scaled = chance * (self.tokens / max(null.tokens, 1))
        # Higher ones need not hold by themselves: latents that are nearly always active are alike by chance, and stand
        # alone at the top.
        holds = (real > 0) & (scaled <= false_share * real)
        first = int(np.argmax(holds)) if holds.any() else BINS
        return first / BINS * LARGEST.get(measure, 1.0)

    def _with_null(self, measure: str, false_share: float) -> "Relation":
        if not 0 < false_share < 1:
            raise UsageError(f"false share: a number between 0 and 1 expected, found {false_share}")
        if self.null is None:
            raise UsageError(f"{self.pair}: a relation with a shuffled null expected; relate with null=True")
        if measure not in self.null.forward:
            raise UsageError(f"{self.pair}: the null of {', '.join(self.null.forward)} expected, found {measure!r}")
        return self.null


@dataclass
class _Finder:
    """The best partners and the pairs to keep so far."""

    measures: Sequence[str]
    keep: Keep
    upstream: LatentSums
    downstream: LatentSums
    tokens: int
    only_best: bool
    best: dict[str, tuple[BestPartner, BestPartner]] = field(init=False)
    histograms: dict[str, Ints] = field(init=False)
    _rows: list[RelatedPairs] = field(default_factory=list)
    # By measure, what may be among the best of a downstream latent, and what it has to reach for that.
    _columns: dict[str, tuple[list[RelatedPairs], Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.histograms = {name: np.zeros(BINS, np.int64) for name in self.measures}
        sizes = (len(self.upstream.active), len(self.downstream.active))
        self.best = {name: (_no_partner(sizes[0]), _no_partner(sizes[1])) for name in self.measures}

    def look_at(self, pairs: RelatedPairs) -> None:
        enough = (self.upstream.active[pairs.i] >= self.keep.least) & (
            self.downstream.active[pairs.j] >= self.keep.least
        )
        pairs = pairs[enough]
        if not len(pairs):
            return
        counts = _counts(pairs, self.upstream, self.downstream, self.tokens)
        for name in self.measures:
            values = MEASURES[name](counts)
            for best, own, other in zip(self.best[name], (pairs.i, pairs.j), (pairs.j, pairs.i), strict=True):
                _improve(best, own, other, values)
            bins = np.minimum((values / LARGEST.get(name, 1.0) * BINS).astype(np.int64), BINS - 1)
            self.histograms[name] += np.bincount(bins[values > 0], minlength=BINS)
            if name in self.keep.by and not self.only_best:
                self._choose(name, pairs, values)

    def _choose(self, name: str, pairs: RelatedPairs, values: Floats) -> None:
        if self.keep.threshold is not None:
            self._rows.append(pairs[values >= self.keep.threshold])
            return
        self._rows.append(pairs[top_of_each(pairs.i, values, self.keep.top)])
        parts, floor = self._columns.setdefault(name, ([], np.zeros(len(self.downstream.active))))
        reaching = np.flatnonzero(values >= floor[pairs.j])
        parts.append(pairs[reaching[top_of_each(pairs.j[reaching], values[reaching], self.keep.top)]])
        if sum(map(len, parts)) > 2 * self.keep.top * len(floor):
            self._compact(name)

    def _compact(self, name: str) -> None:
        """Keep the best of each column so far, and remember what others have to reach."""
        parts, floor = self._columns[name]
        joined = RelatedPairs.concatenate(parts)
        values = MEASURES[name](_counts(joined, self.upstream, self.downstream, self.tokens))
        top = top_of_each(joined.j, values, self.keep.top)
        parts[:] = [joined[top]]
        full = np.bincount(joined.j[top], minlength=len(floor)) >= self.keep.top
        floor[joined.j[top]] = np.inf
        np.minimum.at(floor, joined.j[top], values[top])
        floor[~full] = 0

    def kept(self) -> RelatedPairs:
        none = np.zeros(0, np.int64)
        for name in self._columns:
            self._compact(name)
        columns = [part for parts, _ in self._columns.values() for part in parts]
        every = RelatedPairs.concatenate([RelatedPairs(none, none, none, np.zeros(0)), *self._rows, *columns])
        _, first = np.unique(every.i * len(self.downstream.active) + every.j, return_index=True)
        return every[first]


def top_of_each(groups: Ints, values: Floats, k: int) -> Ints:
    """Which entries are among the k largest above 0 of their group; of equal ones, the earlier."""
    if not len(groups):
        return np.zeros(0, np.int64)
    # Of k classes in which a group's entries fall, each has one at least as large as the smallest of their maxima: the
    # k-th largest is no smaller, and sorting is for the few that are not below it.
    maxima = np.zeros((int(groups.max()) + 1) * k)
    np.maximum.at(maxima, groups * k + np.arange(len(groups)) % k, values)
    candidates = np.flatnonzero((values > 0) & (values >= maxima.reshape(-1, k).min(axis=1)[groups]))
    order = candidates[np.lexsort((-values[candidates], groups[candidates]))]
    own = groups[order]
    begins = np.flatnonzero(np.diff(own, prepend=-1))
    rank = np.arange(len(own)) - np.repeat(begins, np.diff(begins, append=len(own)))
    return np.sort(order[rank < k])


def _improve(best: BestPartner, own: Ints, other: Ints, values: Floats) -> None:
    better = np.flatnonzero(values > best.value[own])
    own, other, values = own[better], other[better], values[better]
    np.maximum.at(best.value, own, values)
    # Of equal ones the first stays: it is written last.
    first = np.flatnonzero(values == best.value[own])[::-1]
    best.partner[own[first]] = other[first]


def _no_partner(count: int) -> BestPartner:
    return BestPartner(np.zeros(count), np.full(count, -1))


def _counts(pairs: RelatedPairs, upstream: LatentSums, downstream: LatentSums, tokens: int) -> PairCounts:
    return PairCounts(
        tokens,
        upstream.active[pairs.i],
        downstream.active[pairs.j],
        pairs.c,
        pairs.products,
        (upstream.sums[pairs.i], downstream.sums[pairs.j]),
        (upstream.squares[pairs.i], downstream.squares[pairs.j]),
    )


def _blocks(sums: PairSums) -> Iterator[tuple[int, int]]:
    """Ranges of rows that hold about as many stored entries each."""
    held = (sums.products or sums.counts).row_counts()
    block = np.cumsum(held) // _BLOCK_ENTRIES
    starts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(held)]
    yield from pairwise(starts)


def _entries(sums: PairSums, start: int, stop: int) -> RelatedPairs:
    """All pairs of some rows that were ever active together."""
    counts = sums.counts.rows(start, stop)
    whole = counts if sums.products is None else sums.products.rows(start, stop)
    i = np.repeat(np.arange(stop - start), np.diff(whole.indptr)).astype(np.int64)
    j = whole.indices.astype(np.int64)
    if sums.products is None:
        return RelatedPairs(i + start, j, counts.data.astype(np.int64), np.zeros(len(j)))
    # What is above a threshold is a part of what is active; both are sorted.
    width = whole.shape[1]
    own = np.repeat(np.arange(stop - start), np.diff(counts.indptr)).astype(np.int64) * width + counts.indices
    c = np.zeros(len(j), np.int64)
    c[np.searchsorted(i * width + j, own)] = counts.data
    return RelatedPairs(i + start, j, c, whole.data)


def _best_cosines(rows: Floats, columns: Floats, itself: bool) -> BestPartner:
    best = _no_partner(len(rows))
    step = max(1, 2**22 // len(columns))
    for start in range(0, len(rows), step):
        found = rows[start : start + step] @ columns.T
        own = np.arange(len(found))
        if itself:
            found[own, own + start] = -np.inf
        partner = found.argmax(axis=1)
        best.partner[start : start + step], best.value[start : start + step] = partner, found[own, partner]
    return best
