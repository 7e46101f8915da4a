"""Joint counts of a few latents: the truth tables of candidate gates, from a second counting pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    Memory: 2**12 tokens of one byte for every latent that is part of a candidate, and 2**22 cells.
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
    if not all(counter.counts[1].any() for counter in counters):
        raise UsageError("gates: batches with rows of several documents expected, found none; raise the batch size")
    for counter, places in zip(counters, groups.values(), strict=True):
        for which, found in enumerate(tables):
            for place, counts in zip(places, counter.counts[which].tolist(), strict=True):
                half = len(counts) // 2
                found[place] = TruthTable(tuple(zip(counts[:half], counts[half:], strict=True)))
    return tables


def _shifted(batch: LatentBatch) -> tuple[Ints, Ints]:
    """Tokens of a batch and, at the same position of the next row, of another document, theirs."""
    width = int(batch.positions.max(initial=0)) + 1
    keys = (batch.rows + 1) * width + batch.positions, batch.rows * width + batch.positions
    _, left, right = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    differ = batch.documents[left] != batch.documents[right]
    return left[differ], right[differ]


class _Counter:
    """Counts of all patterns of candidates with as many inputs, the output as the highest bit; real, then shuffled."""

    def __init__(self, candidates: Sequence[tuple[tuple[int, ...], int]]) -> None:
        inputs, outputs = np.array([one for one, _ in candidates]), np.array([one for _, one in candidates])
        self._up, columns = np.unique(inputs, return_inverse=True)
        self._inputs = columns.reshape(inputs.shape)
        self._down, self._outputs = np.unique(outputs, return_inverse=True)
        self._patterns = 2 ** (inputs.shape[1] + 1)
        self.counts = np.zeros((2, len(candidates), self._patterns), np.int64)

    def add(self, which: int, upstream: Any, downstream: Any, *thresholds: NDArray[np.float64]) -> None:
        above = [
            np.asarray(side[:, own].toarray() > limits[own]).T.astype(np.uint8)
            for side, own, limits in zip((upstream, downstream), (self._up, self._down), thresholds, strict=True)
        ]
        step = max(1, _CELLS // max(upstream.shape[0], 1))
        for start in range(0, len(self._inputs), step):
            inputs = self._inputs[start : start + step]
            codes = above[1][self._outputs[start : start + step]].astype(np.int64) << inputs.shape[1]
            for bit, column in enumerate(inputs.T):
                codes |= above[0][column].astype(np.int64) << bit
            codes += (np.arange(len(inputs)) * self._patterns)[:, None]
            found = np.bincount(codes.reshape(-1), minlength=len(inputs) * self._patterns)
            self.counts[which, start : start + step] += found.reshape(len(inputs), self._patterns)
