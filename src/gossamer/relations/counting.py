"""Counting of all pairs of dictionaries in one pass, beside a null of shuffled documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from gossamer.errors import UsageError
from gossamer.relations.latents import LatentBatch, LatentStream
from gossamer.relations.sums import LatentSums, PairSums

Csr = Any
# Arrays by table and name: see :meth:`CoActivation.tables`.
Tables = Mapping[str, Mapping[str, NDArray[Any]]]
# Products of two active latents that one sparse product adds up: a chunk of tokens ends where a pair reaches it.
_CHUNK_PRODUCTS = 2**22
# Entries of all sums together that stay in memory.
ENTRIES = 2**26


class SitePair(NamedTuple):
    """Two dictionaries by their names; the first is upstream. Prints as `resid_post.0>resid_post.1`."""

    upstream: str
    downstream: str

    def __str__(self) -> str:
        return f"{self.upstream}>{self.downstream}"


@dataclass
class _Chunk:
    """Tokens of whole rows, in order."""

    latents: dict[str, Csr]
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    documents: NDArray[np.int64]

    @classmethod
    def of(cls, batches: Sequence["LatentBatch | _Chunk"]) -> "_Chunk":
        latents = {name: sparse.vstack([one.latents[name] for one in batches], "csr") for name in batches[0].latents}
        parts = (np.concatenate([getattr(one, name) for one in batches]) for name in ("rows", "positions", "documents"))
        return cls(latents, *parts)

    def row(self, number: int) -> "_Chunk":
        """The tokens of one row."""
        chosen = np.flatnonzero(self.rows == number)
        latents = {name: one[chosen] for name, one in self.latents.items()}
        return _Chunk(latents, self.rows[chosen], self.positions[chosen], self.documents[chosen])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is made of, by name."""
        found = {name: getattr(self, name) for name in ("rows", "positions", "documents")}
        for name, one in self.latents.items():
            found |= {f"{name}/{part}": getattr(one, part) for part in ("indptr", "indices", "data")}
        return found

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], widths: Mapping[str, int]) -> "_Chunk":
        """The inverse of :meth:`arrays`."""
        latents = {
            name: sparse.csr_matrix(
                tuple(arrays[f"{name}/{part}"] for part in ("data", "indices", "indptr")),
                shape=(len(arrays["rows"]), width),
            )
            for name, width in widths.items()
        }
        return cls(latents, arrays["rows"], arrays["positions"], arrays["documents"])


@dataclass
class _Shuffled:
    """The null's own sums; a dictionary's latents stand at other tokens upstream than downstream."""

    upstream: dict[str, LatentSums]
    downstream: dict[str, LatentSums]
    pairs: dict[SitePair, PairSums]


@dataclass
class CoActivation:
    """Counts and sums of all pairs, which grow by :meth:`add` and, over blocks of rows, by :meth:`take` (associative).

    The null pairs what is upstream in a row with what is downstream in the next one at the same position (the first row
    follows the last), unless both rows are of one document: marginals and positions stay, what a token's own context
    does is gone. It has as many tokens as real counting, but for rows of unequal length.

    Memory: of the pairs that were ever active together (twice with the null), 8 bytes for c_ij and 12 for
    sum f_i g_j each, of which ENTRIES = 2**26 stay in memory (0.5 to 0.8 GB, less if given) and others lie in `folder`;
    40 bytes a latent; about 2**22 products of one chunk, at most 16 bytes each.

    Attributes:
        thresholds: of each dictionary, the activation above which each latent counts as active.
        latents: what each latent did; `pairs`: what each pair did; `null`: the same of shuffled documents.
    """

    thresholds: Mapping[str, NDArray[np.float64]]
    latents: dict[str, LatentSums]
    pairs: dict[SitePair, PairSums]
    null: _Shuffled | None
    _waiting: list[LatentBatch] = field(default_factory=list)
    _products: int = 0
    _first: _Chunk | None = None
    _last: _Chunk | None = None

    @classmethod
    def empty(
        cls,
        thresholds: Mapping[str, NDArray[np.float64]],
        pairs: Sequence[SitePair],
        *,
        products: bool = True,
        null: bool = True,
        entries: int = ENTRIES,
        folder: Path | None = None,
    ) -> "CoActivation":
        """Before the first token.

        Raises:
            UsageError: no pairs, a pair twice, or one of an unknown dictionary.
        """
        names = {name: len(one) for name, one in thresholds.items()}
        if unknown := [name for pair in pairs for name in pair if name not in names]:
            raise UsageError(f"pairs: dictionaries {', '.join(names)} expected, found {unknown[0]!r}")
        if not pairs or len(set(pairs)) < len(pairs):
            raise UsageError(f"pairs: each pair once expected, found {', '.join(map(str, pairs)) or 'none'}")
        limit = max(1, entries // (len(pairs) * (1 + products) * (1 + null)))

        def sums() -> dict[SitePair, PairSums]:
            shapes = {pair: (names[pair.upstream], names[pair.downstream]) for pair in pairs}
            return {
                pair: PairSums.empty(shape, products=products, limit=limit, folder=folder)
                for pair, shape in shapes.items()
            }

        def latents() -> dict[str, LatentSums]:
            return {name: LatentSums.zeros(count) for name, count in names.items()}

        shuffled = _Shuffled(latents(), latents(), sums()) if null else None
        return cls(thresholds, latents(), sums(), shuffled)

    def add(self, batch: LatentBatch) -> None:
        """Add tokens, of rows that follow those before."""
        if not len(batch.rows):
            return
        self._waiting.append(batch)
        sizes = {name: np.diff(one.indptr).astype(np.int64) for name, one in batch.latents.items()}
        self._products += max(int(sizes[one] @ sizes[other]) for one, other in self.pairs)
        if self._products >= _CHUNK_PRODUCTS:
            self._count()

    def finish(self) -> None:
        """Count what waits; the null's first row follows its last."""
        self._count()
        if self.null is not None and self._first is not None and self._last is not None:
            first = self._first
            self._count_null(self._last, _Chunk(first.latents, first.rows * 0, first.positions, first.documents), -1)
        self._first = self._last = None

    def merge(self, other: "CoActivation") -> None:
        """Add what another counted: of the rows that follow, or, where both are finished, of any others."""
        self.take(other.tables())

    def tables(self) -> Tables:
        """What was counted, as arrays by table and name: so counts go to files and to other processes."""
        self._count()
        sums: dict[str, NDArray[Any]] = {}
        for part, by_name in self._latent_sums():
            for name, latents in by_name.items():
                sums |= {f"{part}/{name}/{one.name}": getattr(latents, one.name) for one in fields(LatentSums)}
        found = {}
        for key, pair in self._pair_sums():
            sums[f"{key}/tokens"] = np.array([pair.tokens])
            found[f"{key}-counts"] = pair.counts.arrays()
            if pair.products is not None:
                found[f"{key}-products"] = pair.products.arrays()
        for end, chunk in (("first", self._first), ("last", self._last)):
            if chunk is not None:
                found[end] = chunk.arrays()
        return {"sums": sums, **{name: arrays for name, arrays in found.items() if arrays}}

    def take(self, tables: Tables) -> None:
        """Add what :meth:`tables` gave of the rows that follow; their runs stay where they lie."""
        self._count()
        sums = tables["sums"]
        for part, by_name in self._latent_sums():
            for name, latents in by_name.items():
                latents.merge(LatentSums(*(sums[f"{part}/{name}/{one.name}"] for one in fields(LatentSums))))
        for key, pair in self._pair_sums():
            pair.more_tokens(int(sums[f"{key}/tokens"][0]))
            pair.counts.take(tables.get(f"{key}-counts", {}))
            if pair.products is not None:
                pair.products.take(tables.get(f"{key}-products", {}))
        if self.null is None or "first" not in tables:
            return
        widths = {name: len(one) for name, one in self.thresholds.items()}
        first, last = (_Chunk.of_arrays(tables[end], widths) for end in ("first", "last"))
        if self._last is not None:
            self._count_null(self._last, first, 1)
        self._first, self._last = self._first or first, last

    def _latent_sums(self) -> Iterator[tuple[str, dict[str, LatentSums]]]:
        yield "latents", self.latents
        if self.null is not None:
            yield "null-upstream", self.null.upstream
            yield "null-downstream", self.null.downstream

    def _pair_sums(self) -> Iterator[tuple[str, PairSums]]:
        for number, pair in enumerate(self.pairs):
            yield f"{number}", self.pairs[pair]
            if self.null is not None:
                yield f"{number}-null", self.null.pairs[pair]

    def _count(self) -> None:
        if not self._waiting:
            return
        chunk = _Chunk.of(self._waiting)
        self._waiting, self._products = [], 0
        active = {name: self._active(name, one) for name, one in chunk.latents.items()}
        for name, latents in self.latents.items():
            latents.add(chunk.latents[name], active[name])
        _add_pairs(self.pairs, (chunk.latents, active), (chunk.latents, active))
        if self.null is None:
            return
        before = [] if self._last is None else [self._last]
        self._count_null(_Chunk.of([*before, chunk]), chunk, 1)
        self._first = self._first or chunk.row(int(chunk.rows[0]))
        self._last = chunk.row(int(chunk.rows[-1]))

    def _count_null(self, upstream: _Chunk, downstream: _Chunk, step: int) -> None:
        """Pair each row downstream with the one `step` before it upstream; -1: with the only one there is."""
        assert self.null is not None
        width = 1 + int(max(upstream.positions.max(), downstream.positions.max()))
        rows = upstream.rows + step if step > 0 else upstream.rows * 0
        keys = (rows * width + upstream.positions, downstream.rows * width + downstream.positions)
        _, left, right = np.intersect1d(*keys, assume_unique=True, return_indices=True)
        differ = upstream.documents[left] != downstream.documents[right]
        left, right = left[differ], right[differ]
        if not len(left):
            return
        sides = []
        for chunk, chosen, sums in ((upstream, left, self.null.upstream), (downstream, right, self.null.downstream)):
            latents = {name: one[chosen] for name, one in chunk.latents.items()}
            active = {name: self._active(name, one) for name, one in latents.items()}
            for name, one in latents.items():
                sums[name].add(one, active[name])
            sides.append((latents, active))
        _add_pairs(self.null.pairs, *sides)

    def _active(self, name: str, latents: Csr) -> Csr:
        """Which entries are above their thresholds, as ones."""
        kept = latents.data > self.thresholds[name][latents.indices]
        starts = np.concatenate([[0], np.cumsum(kept)])[latents.indptr]
        parts = (np.ones(int(starts[-1]), np.int32), latents.indices[kept], starts)
        return sparse.csr_matrix(parts, shape=latents.shape)


def _add_pairs(
    pairs: Mapping[SitePair, PairSums],
    upstream: tuple[Mapping[str, Csr], Mapping[str, Csr]],
    downstream: tuple[Mapping[str, Csr], Mapping[str, Csr]],
) -> None:
    for pair, sums in pairs.items():
        left, right = ([side[name] for side in sides] for sides, name in ((upstream, pair[0]), (downstream, pair[1])))
        sums.add((left[0], left[1]), (right[0], right[1]))


def maxima(stream: LatentStream) -> dict[str, NDArray[np.float64]]:
    """The largest activation of every latent, from a pass of its own: what relative thresholds are shares of."""
    found = {name: np.zeros(width) for name, width in stream.widths.items()}

    def add(batch: LatentBatch) -> None:
        for name, one in batch.latents.items():
            np.maximum.at(found[name], one.indices, one.data)

    stream.map(add)
    return found
