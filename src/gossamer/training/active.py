"""Which latents are active in a batch, and the sparse pass through them.

Of tokens * n_latents pre-activations a few in a thousand survive, so everything after the encoder's product works on
those alone where torch has the sparse products (the CPU with MKL).
"""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Active:
    """The active entries of a (token, latent) matrix, row by row (compressed sparse rows).

    Attributes:
        starts: where each token's entries begin, and the number of entries.
        latents: latent of each entry, ascending within a token.
        n_latents: number of latents.
    """

    starts: Int[Tensor, "tokens_plus_one"]
    latents: Int[Tensor, "entries"]
    n_latents: int

    @classmethod
    def from_flat(cls, flat: Int[Tensor, "entries"], tokens: int, n_latents: int) -> "Active":
        """From ascending indices into the flattened matrix."""
        counts = torch.bincount(flat.div(n_latents, rounding_mode="floor"), minlength=tokens)
        return cls.from_counts(counts, flat % n_latents, n_latents)

    @classmethod
    def from_counts(cls, counts: Int[Tensor, "tokens"], latents: Int[Tensor, "entries"], n_latents: int) -> "Active":
        """From the number of each token's entries, and the entries in order."""
        starts = torch.zeros(len(counts) + 1, dtype=torch.long, device=counts.device)
        starts[1:] = counts.cumsum(0)
        return cls(starts, latents, n_latents)

    def only(self, kept: Bool[Tensor, "entries"]) -> "Active":
        """Those of the entries that are kept."""
        before = torch.zeros(len(kept) + 1, dtype=torch.long, device=kept.device)
        before[1:] = kept.cumsum(0)
        return Active(before[self.starts], self.latents[kept], self.n_latents)

    def in_parts(self, bounds: Sequence[int]) -> "Active":
        """The same entries with a row for every token and part of the latents: those below the first bound, then those
        from one bound to the next, up to the last one, which is `n_latents`.
        """
        edges = torch.tensor(bounds[:-1], device=self.latents.device)
        rows = self.tokens * len(bounds) + torch.bucketize(self.latents, edges, right=True)
        counts = torch.bincount(rows, minlength=(len(self.starts) - 1) * len(bounds))
        return Active.from_counts(counts, self.latents, self.n_latents)

    @property
    def counts(self) -> Int[Tensor, "tokens"]:
        """Active latents of each token."""
        return self.starts.diff()

    @property
    def tokens(self) -> Int[Tensor, "entries"]:
        """Token of each entry."""
        counts = self.counts
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def order(self) -> Int[Tensor, "entries"]:
        """What sorts the entries latent by latent."""
        # Numbers of 16 bits are sorted by their digits, ten times as fast.
        narrow = self.latents.numpy().astype(np.min_scalar_type(self.n_latents))
        return torch.from_numpy(np.argsort(narrow, kind="stable"))

    def by_latent(self, order: Int[Tensor, "entries"]) -> "Active":
        """The same entries latent by latent (its "tokens" are latents), given the order that sorts them so."""
        counts = torch.bincount(self.latents, minlength=self.n_latents)
        return Active.from_counts(counts, self.tokens[order], len(self.starts) - 1)

    def matrix(self, values: Float[Tensor, "entries"]) -> Tensor:
        """The sparse matrix with these values."""
        shape = (len(self.starts) - 1, self.n_latents)
        return torch.sparse_csr_tensor(self.starts, self.latents, values, shape, check_invariants=False)

    def sampled(self, left: Float[Tensor, "tokens d"], right: Float[Tensor, "n d"]) -> Float[Tensor, "entries"]:
        """The entries of left @ right.T."""
        empty = self.matrix(left.new_zeros(len(self.latents)))
        return torch.sparse.sampled_addmm(empty, left, right.t(), beta=0.0).values()

    def sums(self, values: Float[Tensor, "entries"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "tokens d"]:
        """The matrix with these values times `rows`, for few entries a token."""
        # On the CPU a bag is more than twice as fast as a sparse product: few rows are added up, from all over.
        return torch.nn.functional.embedding_bag(
            self.latents, rows, self.starts[:-1], mode="sum", per_sample_weights=values
        )

    def product(self, values: Float[Tensor, "entries"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "tokens d"]:
        """The same, for few rows that are used many times."""
        result = rows.new_empty(len(self.starts) - 1, rows.shape[1])
        # Written into directly: a product without a place to go makes two of them, one filled with zeros.
        return torch.addmm(result, self.matrix(values), rows, beta=0.0, out=result)


@functools.cache
def has_sparse_products(device: torch.device) -> bool:
    """Whether torch can multiply sparse rows on this device and sample a product at their entries."""
    if device.type != "cpu" or not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False
    with warnings.catch_warnings():
        # torch says once in a process that sparse rows are in beta: what is used of them is held by a test.
        warnings.simplefilter("ignore")
        Active(torch.tensor([0, 1]), torch.tensor([0]), 1).matrix(torch.ones(1))
    return True


def reconstruct(
    x: Float[Tensor, "tokens d"],
    W_enc: Float[Tensor, "d n"],
    b_enc: Float[Tensor, "n"],
    W_dec: Float[Tensor, "n d"],
    active: Active,
    values: Float[Tensor, "entries"],
) -> Float[Tensor, "tokens d"]:
    """The active latents times W_dec, differentiable in x, W_enc, b_enc and W_dec with the active set held fixed.

    `values` are those of x @ W_enc + b_enc at the entries, without autograd; b_dec is the caller's to add.
    """
    return _SparseReconstruction.apply(x, W_enc, b_enc, W_dec, values, active, active)  # type: ignore[no-untyped-call]


def reconstruct_parts(
    x: Float[Tensor, "tokens d"],
    W_enc: Float[Tensor, "d n"],
    b_enc: Float[Tensor, "n"],
    W_dec: Float[Tensor, "n d"],
    active: Active,
    values: Float[Tensor, "entries"],
    bounds: Sequence[int],
) -> Float[Tensor, "tokens parts d"]:
    """As :func:`reconstruct`, but what each part of the latents writes by itself (see :meth:`Active.in_parts`).

    One sparse product for all parts.
    """
    parts = active.in_parts(bounds)
    written = _SparseReconstruction.apply(x, W_enc, b_enc, W_dec, values, active, parts)  # type: ignore[no-untyped-call]
    return written.reshape(len(x), len(bounds), -1)


class _SparseReconstruction(torch.autograd.Function):
    """`active` says where entries were read, `written` in which rows the same entries are decoded.

    The way back goes latent by latent: a row of W_dec is read once for all the entries that it takes part in. There are
    no sparse products in bfloat16: under autocast they are done in float32.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        values: Tensor,
        active: Active,
        written: Active,
    ) -> Tensor:
        ctx.active, ctx.written = active, written
        ctx.save_for_backward(x, W_enc, W_dec, values)
        return written.sums(values, W_dec)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        active: Active = ctx.active
        written: Active = ctx.written
        x, W_enc, W_dec, values = ctx.saved_tensors
        order = active.order()
        read, decoded = active.by_latent(order), written.by_latent(order)
        d_values = decoded.sampled(W_dec, gradient)
        d_W_dec = decoded.product(values[order], gradient)
        d_W_enc = read.product(d_values, x).t()
        in_order = torch.empty_like(d_values).index_copy_(0, order, d_values)
        d_b_enc = torch.zeros_like(W_enc[0]).index_add_(0, active.latents, in_order)
        d_x = active.sums(in_order, W_enc.t()) if ctx.needs_input_grad[0] else None
        return d_x, d_W_enc, d_b_enc, d_W_dec, None, None, None
