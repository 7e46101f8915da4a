"""Which latents are active at each token and how strongly: one type, from the training step to what users see.

Stored as compressed sparse rows, so that a token takes no more memory than it has active latents, however busy another
one is, and so that sparse products can work on it as it is. Tables of values and indices, padded to the busiest token,
are a view of it.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from gossamer.sparse import backend

# Cached properties that values have no part in.
_OF_THE_PATTERN = ("tokens", "places", "order")


@dataclass(frozen=True, repr=False)
class SparseLatents:
    """The active entries of a matrix of tokens and latents, row by row.

    An entry of 0 only fills a row up: latents are never negative. :meth:`from_dense`, :meth:`from_padded` and
    :meth:`from_flat` make them. Memory: entries * (8 bytes + one value), against tokens * n_latents values when dense.

    Attributes:
        starts: where each token's entries begin, and the number of entries; tokens in one row, whatever `shape` is.
        latents: latent of each entry, in any order within a token.
        activations: value of each entry, >= 0.
        n_latents: number of latents of the dictionary.
        shape: that of the tokens, as (batch, pos).
    """

    starts: Int[Tensor, "tokens_plus_one"]
    latents: Int[Tensor, "entries"]
    activations: Float[Tensor, "entries"]
    n_latents: int
    shape: tuple[int, ...]

    @classmethod
    def from_dense(cls, activations: Float[Tensor, "*tokens n"]) -> "SparseLatents":
        """Whatever is active; differentiable. A NaN is kept, so that it stays visible."""
        *shape, n_latents = activations.shape
        flat = nonzero(~(activations.detach().reshape(-1) <= 0))
        found = cls.from_flat(flat, activations.reshape(-1).gather(0, flat), math.prod(shape), n_latents)
        return found.reshape(*shape)

    @classmethod
    def from_padded(
        cls, values: Float[Tensor, "*tokens width"], indices: Int[Tensor, "*tokens width"], n_latents: int
    ) -> "SparseLatents":
        """From as many entries for every token; those of value 0 are padding and may repeat an index."""
        *shape, width = values.shape
        starts = width * torch.arange(math.prod(shape) + 1, device=values.device)
        return cls(starts, indices.reshape(-1), values.reshape(-1), n_latents, tuple(shape))

    @classmethod
    def from_flat(
        cls, flat: Int[Tensor, "entries"], activations: Float[Tensor, "entries"], tokens: int, n_latents: int
    ) -> "SparseLatents":
        """From ascending indices into the flattened matrix; no device is waited for."""
        counts = _counted(flat.div(n_latents, rounding_mode="floor"), tokens)
        return cls(_starts(counts), flat % n_latents, activations, n_latents, (tokens,))

    @staticmethod
    def concatenate(parts: Sequence["SparseLatents"]) -> "SparseLatents":
        """Join along the first axis of the tokens. `parts` must not be empty."""
        first, counts = parts[0], torch.cat([part.counts for part in parts])
        latents = torch.cat([part.latents for part in parts])
        activations = torch.cat([part.activations for part in parts])
        shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
        return SparseLatents(_starts(counts), latents, activations, first.n_latents, shape)

    def __repr__(self) -> str:
        return f"SparseLatents(shape={self.shape}, n_latents={self.n_latents}, entries={len(self.latents)})"

    @property
    def values(self) -> Float[Tensor, "*tokens width"]:
        """Activations of each token, strongest first, padded with 0 to the busiest token's number (or 1).

        A view for few tokens: tokens * width values, kept. Differentiable in the activations.
        """
        return self._padded[0]

    @property
    def indices(self) -> Int[Tensor, "*tokens width"]:
        """The latent of each of :attr:`values`."""
        return self._padded[1]

    @functools.cached_property
    def _padded(self) -> tuple[Tensor, Tensor]:
        width = max(1, int(self.counts.max())) if len(self.counts) else 1
        values, order = self.table(self.activations, 0.0, width).sort(dim=1, descending=True, stable=True)
        indices = self.table(self.latents, 0.0, width).gather(1, order)
        return values.reshape(*self.shape, width), indices.reshape(*self.shape, width)

    @property
    def l0(self) -> Int[Tensor, "*tokens"]:
        """Number of active latents of each token."""
        active = torch.zeros_like(self.counts).index_add_(0, self.tokens, (self.activations > 0).long())
        return active.reshape(self.shape)

    def dense(self) -> Float[Tensor, "*tokens n_latents"]:
        """The same as a dense tensor (tokens * n_latents values of memory); differentiable in the activations."""
        zeros = self.activations.new_zeros(len(self.counts) * self.n_latents)
        # Adding, not writing: an entry of 0 may repeat the index of an active latent.
        flat = zeros.scatter_add(0, self.tokens * self.n_latents + self.latents, self.activations)
        return flat.reshape(*self.shape, self.n_latents)

    def to(self, device: torch.device | str) -> "SparseLatents":
        """The same latents on `device`."""
        starts, latents = self.starts.to(device), self.latents.to(device)
        return SparseLatents(starts, latents, self.activations.to(device), self.n_latents, self.shape)

    def reshape(self, *shape: int) -> "SparseLatents":
        """The same entries with tokens of another shape."""
        return replace(self, shape=shape)

    def with_activations(self, activations: Float[Tensor, "entries"]) -> "SparseLatents":
        """The same entries with other values."""
        made = replace(self, activations=activations)
        # Where the entries are does not depend on their values.
        made.__dict__.update({name: known for name, known in self.__dict__.items() if name in _OF_THE_PATTERN})
        return made

    def only(self, kept: Bool[Tensor, "entries"]) -> "SparseLatents":
        """Those of the entries that are kept."""
        before = torch.zeros(len(kept) + 1, dtype=torch.long, device=kept.device)
        before[1:] = kept.cumsum(0)
        latents, activations = self.latents[kept], self.activations[kept]
        return replace(self, starts=before[self.starts], latents=latents, activations=activations)

    def strongest(self, k: int, scores: Float[Tensor, "entries"]) -> "SparseLatents":
        """The k entries of each token that have the largest scores; of equal ones, the earlier."""
        order = scores.argsort(descending=True, stable=True)
        order = order[self.tokens[order].argsort(stable=True)]
        return self.only(torch.empty_like(order, dtype=torch.bool).index_copy_(0, order, self.places < k))

    def in_parts(self, bounds: Sequence[int]) -> "SparseLatents":
        """The same entries with a row for every token and part of the latents: those below the first bound, then those
        from one bound to the next, up to the last one, which is `n_latents`. Within a token latents must ascend.
        """
        rows = self.tokens * len(bounds)
        for bound in bounds[:-1]:
            rows = rows + (self.latents >= bound)
        counts = _counted(rows, len(self.counts) * len(bounds))
        return replace(self, starts=_starts(counts), shape=(*self.shape, len(bounds)))

    @property
    def counts(self) -> Int[Tensor, "tokens"]:
        """Entries of each token."""
        return self.starts.diff()

    @functools.cached_property
    def tokens(self) -> Int[Tensor, "entries"]:
        """Token of each entry."""
        every = torch.arange(len(self.starts) - 1, device=self.starts.device)
        # Told how many there are, a device need not say so.
        return torch.repeat_interleave(every, self.counts, output_size=len(self.latents))

    @functools.cached_property
    def places(self) -> Int[Tensor, "entries"]:
        """Which of its token's entries each is."""
        return torch.arange(len(self.latents), device=self.latents.device) - self.starts[self.tokens]

    def table(self, values: Tensor, fill: float, width: int) -> Tensor:
        """A row of `width` for every token, with these values of its entries, and `fill` behind them."""
        table = values.new_full((len(self.counts), width), fill)
        table[self.tokens, self.places] = values
        return table

    @functools.cached_property
    def order(self) -> Int[Tensor, "entries"]:
        """What sorts the entries latent by latent."""
        if self.latents.device.type != "cpu":
            return self.latents.argsort(stable=True)
        # Numbers of 16 bits are sorted by their digits, ten times as fast.
        narrow = self.latents.numpy().astype(np.min_scalar_type(self.n_latents - 1))
        return torch.from_numpy(np.argsort(narrow, kind="stable"))

    def by_latent(self, order: Int[Tensor, "entries"]) -> "SparseLatents":
        """The same entries latent by latent (its "tokens" are latents), given the order that sorts them so."""
        starts, n_tokens = _starts(_counted(self.latents, self.n_latents)), len(self.starts) - 1
        return SparseLatents(starts, self.tokens[order], self.activations[order], n_tokens, (self.n_latents,))

    def decoded(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "*tokens d"]:
        """The matrix times `rows`, of which only those of the entries are read; differentiable in both."""
        found = _weighted_rows(self.starts, self.latents, self.activations.to(rows.dtype), rows)
        return found.reshape(*self.shape, rows.shape[1])

    def sums(self, values: Float[Tensor, "entries"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "all_tokens d"]:
        """The matrix with these values in place of its own times `rows`, without autograd."""
        if backend.runs_kernels(rows.device):
            return backend.kernels().sums(self.starts, self.latents, values, rows)
        return _weighted_rows(self.starts, self.latents, values, rows)

    def products(self, left: Float[Tensor, "all_tokens d"], right: Float[Tensor, "n d"]) -> Float[Tensor, "entries"]:
        """left @ right.T at the entries (there may be two of one latent), without autograd."""
        if backend.runs_kernels(left.device):
            return backend.kernels().products(self.starts, self.latents, left, right)
        # Latent by latent, so that of the larger side every row is read once.
        starts, tokens = _starts(_counted(self.latents, self.n_latents)), self.tokens[self.order]
        shape, zeros = (self.n_latents, len(left)), left.new_zeros(len(self.latents))
        empty = torch.sparse_csr_tensor(starts, tokens, zeros, shape, check_invariants=False)
        found = torch.sparse.sampled_addmm(empty, right, left.t(), beta=0.0).values()
        return torch.empty_like(found).index_copy_(0, self.order, found)


def nonzero(mask: Bool[Tensor, "n"]) -> Int[Tensor, "entries"]:
    """Where it is true, in ascending order."""
    # numpy finds them several times faster than torch does on a CPU.
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.nonzero()[:, 0]


def _counted(indices: Int[Tensor, "entries"], length: int) -> Int[Tensor, "length"]:
    """How often each of the numbers from 0 to `length` - 1 occurs; no device is waited for."""
    return torch.zeros(length, dtype=torch.long, device=indices.device).index_add_(0, indices, torch.ones_like(indices))


def _starts(counts: Int[Tensor, "rows"]) -> Int[Tensor, "rows_plus_one"]:
    """Where rows of these lengths begin, and where the last one ends."""
    starts = torch.zeros(len(counts) + 1, dtype=torch.long, device=counts.device)
    starts[1:] = counts.cumsum(0)
    return starts


def _weighted_rows(starts: Tensor, columns: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    # Up to twice as fast on a CPU as a sparse matrix times a dense one.
    return embedding_bag(columns, rows, starts[:-1], mode="sum", per_sample_weights=values)
