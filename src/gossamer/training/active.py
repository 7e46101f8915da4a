"""Which latents are active in a batch: TopK per token, BatchTopK over the batch; and the sparse pass through them.

Of tokens * n_latents pre-activations a few in a hundred survive, so everything after the encoder's product works on
those alone where torch has the sparse products (the CPU with MKL), and on masked dense tensors elsewhere. Both give the
same numbers up to rounding, which a test holds.
"""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
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
        starts = torch.zeros(tokens + 1, dtype=torch.long, device=flat.device)
        starts[1:] = counts.cumsum(0)
        return cls(starts, flat % n_latents, n_latents)

    def in_parts(self, bounds: Sequence[int]) -> "Active":
        """The same entries with a row for every token and part of the latents: those below the first bound, then those
        from one bound to the next, up to the last one, which is `n_latents`.
        """
        edges = torch.tensor(bounds[:-1], device=self.latents.device)
        rows = self.tokens * len(bounds) + torch.bucketize(self.latents, edges, right=True)
        starts = torch.zeros((len(self.starts) - 1) * len(bounds) + 1, dtype=torch.long, device=self.latents.device)
        starts[1:] = torch.bincount(rows, minlength=len(starts) - 1).cumsum(0)
        return Active(starts, self.latents, self.n_latents)

    @property
    def counts(self) -> Int[Tensor, "tokens"]:
        """Active latents of each token."""
        return self.starts.diff()

    @property
    def tokens(self) -> Int[Tensor, "entries"]:
        """Token of each entry."""
        counts = self.counts
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def matrix(self, values: Float[Tensor, "entries"]) -> Tensor:
        """The sparse matrix with these values."""
        shape = (len(self.starts) - 1, self.n_latents)
        return torch.sparse_csr_tensor(self.starts, self.latents, values, shape, check_invariants=False)


def topk(pre: Float[Tensor, "tokens n"], k: int) -> Active:
    """The k largest pre-activations of each token, those that are positive."""
    values, latents = pre.topk(k, dim=1, sorted=False)
    latents, order = latents.sort(dim=1)
    kept = values.gather(1, order) > 0
    flat = (latents + torch.arange(len(pre), device=pre.device)[:, None] * pre.shape[1])[kept]
    return Active.from_flat(flat, len(pre), pre.shape[1])


def batchtopk(pre: Float[Tensor, "tokens n"], k: int, floor: float = 0.0) -> tuple[Active, float]:
    """The k * tokens largest pre-activations of the batch, those that are positive, and the smallest kept (0 if none).

    `floor` is a guess of something below that smallest one (the last step's, less a margin): it only saves time.
    """
    wanted = k * len(pre)
    flat = _above(pre, max(floor, 0.0))
    if floor > 0 and len(flat) < wanted:
        flat = _above(pre, 0.0)
    values = pre.reshape(-1)[flat]
    if len(flat) > wanted:
        smallest = _kth_largest(values, wanted)
        flat = flat[values >= smallest]
    else:
        smallest = float(values.min()) if len(values) else 0.0
    return Active.from_flat(flat, len(pre), pre.shape[1]), smallest


def above(pre: Float[Tensor, "tokens n"], threshold: float) -> Active:
    """All pre-activations above `threshold`: what a BatchTopK dictionary does at inference."""
    return Active.from_flat(_above(pre, threshold), len(pre), pre.shape[1])


def _above(pre: Tensor, threshold: float) -> Int[Tensor, "entries"]:
    # numpy finds and partitions several times faster than torch on the CPU (measured: 6 ms against 22 ms, 4 M values).
    if pre.device.type == "cpu" and pre.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.flatnonzero(pre.detach().numpy() > threshold))
    return (pre.detach().reshape(-1) > threshold).nonzero()[:, 0]


def _kth_largest(values: Tensor, k: int) -> float:
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        return float(np.partition(values.detach().numpy(), len(values) - k)[len(values) - k])
    return float(values.detach().kthvalue(len(values) - k + 1).values)


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
    pre: Float[Tensor, "tokens n"],
    active: Active,
) -> Float[Tensor, "tokens d"]:
    """The active latents times W_dec, differentiable in x, W_enc, b_enc and W_dec with the active set held fixed.

    `pre` is x @ W_enc + b_enc, computed without autograd; b_dec is the caller's to add.
    """
    if has_sparse_products(x.device):
        return _sparse(x, W_enc, b_enc, W_dec, pre, active, active)
    mask = torch.zeros_like(pre)
    mask[active.tokens, active.latents] = 1
    return (torch.addmm(b_enc, x, W_enc) * mask) @ W_dec


def reconstruct_parts(
    x: Float[Tensor, "tokens d"],
    W_enc: Float[Tensor, "d n"],
    b_enc: Float[Tensor, "n"],
    W_dec: Float[Tensor, "n d"],
    pre: Float[Tensor, "tokens n"],
    active: Active,
    bounds: Sequence[int],
) -> Float[Tensor, "tokens parts d"]:
    """As :func:`reconstruct`, but what each part of the latents writes by itself (see :meth:`Active.in_parts`).

    One sparse product for all parts, on devices that have it: the others have their own way.
    """
    written = _sparse(x, W_enc, b_enc, W_dec, pre, active, active.in_parts(bounds))
    return written.reshape(len(x), len(bounds), -1)


def _sparse(
    x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, pre: Tensor, active: Active, written: Active
) -> Tensor:
    values = pre.reshape(-1)[active.tokens * active.n_latents + active.latents]
    return _SparseReconstruction.apply(x, W_enc, b_enc, W_dec, values, active, written)  # type: ignore[no-untyped-call]


class _SparseReconstruction(torch.autograd.Function):
    """`active` says where entries were read, `written` in which rows the same entries are decoded.

    There are no sparse products in bfloat16: under autocast they are done in float32.
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
        return written.matrix(values) @ W_dec

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        active: Active = ctx.active
        written: Active = ctx.written
        x, W_enc, W_dec, values = ctx.saved_tensors
        d_values = torch.sparse.sampled_addmm(written.matrix(values), gradient, W_dec.t(), beta=0.0).values()
        transposed, order = _transposed(active)
        by_latent = transposed if written is active else _transposed(written)[0]
        d_W_dec = by_latent.matrix(values[order]) @ gradient
        d_W_enc = (transposed.matrix(d_values[order]) @ x).t()
        d_b_enc = torch.zeros_like(W_enc[0]).index_add_(0, active.latents, d_values)
        d_x = active.matrix(d_values) @ W_enc.t() if ctx.needs_input_grad[0] else None
        return d_x, d_W_enc, d_b_enc, d_W_dec, None, None, None


def _transposed(active: Active) -> tuple[Active, Int[Tensor, "entries"]]:
    """The same entries latent by latent (its "tokens" are latents), and where each was."""
    order = torch.from_numpy(np.argsort(active.latents.numpy(), kind="stable"))
    starts = torch.zeros(active.n_latents + 1, dtype=torch.long)
    starts[1:] = torch.bincount(active.latents, minlength=active.n_latents).cumsum(0)
    return Active(starts, active.tokens[order], len(active.starts) - 1), order
