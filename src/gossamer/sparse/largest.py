"""The largest pre-activations, of every token or of a whole batch, found through a :class:`Screen`.

Both rules guess a level, compute exactly every entry that may reach it, and look whether enough of them do. If so,
what lies below the level cannot matter; if not, the guess was too high, and what was found gives one that is not.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.finite import require_finite
from gossamer.sparse.latents import SparseLatents, nonzero
from gossamer.sparse.screen import Chunk, Screen

# What is surely below the smallest pre-activation kept, as a share of that of an earlier batch or a part of this one.
MARGIN = 0.8
# How often a guess is quartered before everything positive is looked at, and the tokens for a first guess.
_TRIES, _SAMPLE = 2, 128


@runtime_checkable
class Others(Protocol):
    """Those who have the rest of a batch (:class:`gossamer.training.parallel.Processes`)."""

    @property
    def count(self) -> int:
        """How many there are, with this one."""

    def sum(self, value: Tensor) -> Tensor:
        """Over all."""

    def least(self, value: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The least of all."""

    def kth_largest(self, values: Float[Tensor, "n"], k: int) -> Float[Tensor, ""]:
        """Of the positive values of all; 0 if there are fewer."""


class _Nobody:
    """The batch is here as a whole."""

    count = 1

    def sum(self, value: Tensor) -> Tensor:
        return value

    def least(self, value: Float[Tensor, ""]) -> Float[Tensor, ""]:
        return value

    def kth_largest(self, values: Float[Tensor, "n"], k: int) -> Float[Tensor, ""]:
        if len(values) < k:
            return values.new_zeros(())
        place = len(values) - k
        return torch.from_numpy(np.partition(values.numpy(), place))[place].clamp(min=0)


def of_tokens(screen: Screen, k: int, ties: float = 0.0) -> SparseLatents:
    """The k largest pre-activations of each token, those that are positive; latents ascend within a token.

    With `ties`, also whatever is smaller than the k-th by no more than this share of it.
    """
    return SparseLatents.concatenate([_of_chunk(screen, chunk, k, 1 - ties) for chunk in screen.chunks()])


def _of_chunk(screen: Screen, chunk: Chunk, k: int, share: float) -> SparseLatents:
    level = require_finite((chunk.kth_or_less(k) - chunk.slack).clamp(min=0), "pre-activations") * share
    while True:
        flat = chunk.at_least(level)
        bounds = SparseLatents.from_flat(flat, chunk.at(flat), len(level), screen.n_latents)
        found = screen.exact(bounds, chunk.start)
        kth, kept = _best(found, k, share)
        if bool(((kth * share >= level) | (level == 0)).all()):
            return found.only(kept)
        level = torch.where(kth * share < level, kth.clamp(min=0) * share, level)


def _best(found: SparseLatents, k: int, share: float) -> tuple[Float[Tensor, "tokens"], Tensor]:
    """The k-th largest value of each token (-inf where there are fewer), and which entries are among the k, or if
    `share` is below 1 at least that share of the k-th.
    """
    table = found.table(found.activations, -torch.inf, max(k, int(found.counts.max())))
    largest, where = table.topk(k, dim=1, sorted=False)
    kth = largest.amin(dim=1)
    if share < 1:
        return kth, (found.activations > 0) & (found.activations >= (kth * share)[found.tokens])
    kept = torch.zeros_like(table, dtype=torch.bool).scatter(1, where, largest > 0)
    return kth, kept[found.tokens, found.places]


def of_batch(screen: Screen, k: int, floor: float = 0.0, others: Others | None = None) -> tuple[SparseLatents, float]:
    """The k * tokens largest of the batch, those that are positive, and the smallest kept (0 if none).

    `floor` is a guess of something below that smallest one (the last batch's, less a margin): it only saves time.
    Where `others` have the rest of the batch, the largest of all of it are meant.
    """
    others = _Nobody() if others is None or others.count == 1 else others
    wanted = int(others.sum(torch.tensor(k * screen.tokens)))
    floor = floor if floor > 0 else _guess(screen, k, others)
    tries = 0
    while True:
        candidates = _Candidates.above(screen, floor)
        level = max(floor, float(others.kth_largest(candidates.likely, wanted)))
        while True:
            found = candidates.exactly(screen, level)
            values = found.activations
            smallest = float(others.kth_largest(values, wanted))
            if smallest >= level:
                found = found.only((values >= smallest) & (values > 0))
                values = found.activations
                least = float(others.least(values.min() if len(values) else values.new_full((), torch.inf)))
                return found, 0.0 if least == torch.inf else least
            level = smallest
            if level < floor:
                break
        # There are enough at that level, if there were enough at all. If not, the guess is lowered step by step, for
        # everything above 0 is half of the matrix.
        floor = level if level > 0 else floor / 4 if tries < _TRIES else 0.0
        tries += 1


@dataclass(frozen=True)
class _Candidates:
    """What may be as large as a level that was guessed: indices into the flattened matrix, upper bounds, and what the
    values are likely to be at least.
    """

    flat: Int[Tensor, "entries"]
    upper: Float[Tensor, "entries"]
    likely: Float[Tensor, "entries"]

    @classmethod
    def above(cls, screen: Screen, level: float) -> "_Candidates":
        parts = []
        for chunk in screen.chunks():
            flat = chunk.at_least(torch.tensor(level))
            upper = chunk.at(flat)
            likely = upper - chunk.slack[flat.div(screen.n_latents, rounding_mode="floor")]
            parts.append((flat + chunk.start * screen.n_latents, upper, likely))
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def exactly(self, screen: Screen, level: float) -> SparseLatents:
        """The entries that may be as large as `level`."""
        # As indices: torch would look for them anew in each of the two.
        kept = nonzero(self.upper >= level * (1 - screen.rounding))
        return screen.exact(SparseLatents.from_flat(self.flat[kept], self.upper[kept], screen.tokens, screen.n_latents))


def _guess(screen: Screen, k: int, others: Others) -> float:
    """By some tokens from all over the batch."""
    some = Screen(screen.x[:: max(1, screen.tokens // _SAMPLE)], screen.encoder)
    chunk = next(some.chunks())
    wanted = int(others.sum(torch.tensor(k * len(chunk.upper))))
    likely = chunk.upper.to(chunk.slack.dtype) - chunk.slack[:, None]
    return MARGIN * float(others.kth_largest(likely.reshape(-1), wanted))
