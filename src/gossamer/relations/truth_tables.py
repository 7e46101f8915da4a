"""Joint counts of a few latents: the truth tables of candidate gates, from a second counting pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from gossamer.errors import UsageError
from gossamer.relations.counting import SitePair
from gossamer.relations.latents import LatentBatch, LatentStream
from gossamer.relations.measures import Ints

# Tokens, and cells of tokens and gates, that are looked at together.
_TOKENS = 2**12
_CELLS = 2**22


@dataclass(frozen=True)
class TruthTable:
    """How often an output is active for each pattern of its inputs.

    Attributes:
        counts: tokens of each pattern, output off and output on; bit k of a pattern's number is input k.
    """

    counts: tuple[tuple[int, int], ...]

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return len(self.counts).bit_length() - 1


def truth_tables(
    stream: LatentStream,
    pair: SitePair,
    candidates: Sequence[tuple[tuple[int, ...], int]],
    thresholds: dict[str, NDArray[np.float64]],
) -> tuple[list[TruthTable], list[TruthTable]]:
    """The truth tables of candidates (inputs, output) over all tokens, and over shuffled documents.

    Inputs are latents of `pair.upstream`, outputs of `pair.downstream`. Shuffled: each row's outputs with the inputs of
    the row before at the same position, where the stream has both in one batch and their documents differ.

    Raises:
        UsageError: no two rows of different documents lie in one batch.

    Memory: 8 bytes for every set of a candidate's latents and text, and of 2**22 cells (tokens and candidates) 12 bytes
    for each that is active in a set, of all sets.
    """
    groups: dict[int, list[int]] = {}
    for place, (inputs, _) in enumerate(candidates):
        groups.setdefault(len(inputs), []).append(place)
    counters = [_Counter([candidates[place] for place in places]) for places in groups.values()]
    tables: tuple[list[Any], list[Any]] = [None] * len(candidates), [None] * len(candidates)

    def add(batch: LatentBatch) -> None:
        sides = [batch.latents[name] for name in pair]
        left, right = _shifted(batch)
        for counter in counters:
            for start in range(0, len(batch.rows), _TOKENS):
                chosen = slice(start, start + _TOKENS)
                counter.add(0, sides[0][chosen], sides[1][chosen], thresholds[pair[0]], thresholds[pair[1]])
            for start in range(0, len(left), _TOKENS):
                chosen = slice(start, start + _TOKENS)
                ends = sides[0][left[chosen]], sides[1][right[chosen]]
                counter.add(1, *ends, thresholds[pair[0]], thresholds[pair[1]])

    stream.map(add)
    counts = [counter.counts for counter in counters]
    if not all(one[1].any() for one in counts):
        raise UsageError("gates: batches with rows of several documents expected, found none; raise the batch size")
    for one, places in zip(counts, groups.values(), strict=True):
        for which, found in enumerate(tables):
            for place, own in zip(places, one[which].tolist(), strict=True):
                half = len(own) // 2
                found[place] = TruthTable(tuple(zip(own[:half], own[half:], strict=True)))
    return tables


def _shifted(batch: LatentBatch) -> tuple[Ints, Ints]:
    """Tokens of a batch and, at the same position of the next row, of another document, theirs."""
    width = int(batch.positions.max(initial=0)) + 1
    keys = (batch.rows + 1) * width + batch.positions, batch.rows * width + batch.positions
    _, left, right = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    differ = batch.documents[left] != batch.documents[right]
    return left[differ], right[differ]


class _Counter:
    """Counts of all patterns of candidates with as many inputs, the output as the highest bit; real, then shuffled.

    What is counted are tokens at which all of some latents are active, for every set of them: sparse latents meet at
    few tokens. Counts of patterns follow, as :meth:`counts` says.
    """

    def __init__(self, candidates: Sequence[tuple[tuple[int, ...], int]]) -> None:
        inputs, outputs = np.array([one for one, _ in candidates]), np.array([one for _, one in candidates])
        self._up, columns = np.unique(inputs, return_inverse=True)
        self._inputs = columns.reshape(inputs.shape)
        self._down, self._outputs = np.unique(outputs, return_inverse=True)
        self._together = np.zeros((2, len(candidates), 2 ** (inputs.shape[1] + 1)), np.int64)

    def add(self, which: int, upstream: Any, downstream: Any, *thresholds: NDArray[np.float64]) -> None:
        """Count some tokens (rows of both sides)."""
        if not upstream.shape[0]:
            return
        above = [
            _active(side, own, limits)
            for side, own, limits in zip((upstream, downstream), (self._up, self._down), thresholds, strict=True)
        ]
        together, step = self._together[which], max(1, _CELLS // upstream.shape[0])
        together[:, 0] += upstream.shape[0]
        for start in range(0, len(self._inputs), step):
            own = slice(start, start + step)
            members = [above[0][column] for column in self._inputs[own].T] + [above[1][self._outputs[own]]]
            found: list[Any] = [None] * together.shape[1]
            for chosen in range(1, together.shape[1]):
                last = chosen.bit_length() - 1
                rest = chosen ^ 1 << last
                found[chosen] = found[rest].multiply(members[last]) if rest else members[last]
                together[own, chosen] += np.diff(found[chosen].indptr)

    @property
    def counts(self) -> Ints:
        """Tokens of each pattern (2, candidates, patterns): of exactly these latents, by inclusion and exclusion."""
        found = self._together.copy()
        for bit in range(found.shape[2].bit_length() - 1):
            without = np.flatnonzero(np.arange(found.shape[2]) >> bit & 1 == 0)
            found[..., without] -= found[..., without | 1 << bit]
        return found


def _active(side: Any, own: NDArray[np.int64], limits: NDArray[np.float64]) -> Any:
    """Tokens at which each of some latents is above its threshold, as ones in scipy's CSR (latents, tokens)."""
    found = side.T.tocsr()[own]
    kept = found.data > np.repeat(limits[own], np.diff(found.indptr))
    starts = np.concatenate([[0], np.cumsum(kept)])[found.indptr]
    parts = (np.ones(int(starts[-1]), np.int32), found.indices[kept], starts)
    return sparse.csr_matrix(parts, shape=found.shape)
