"""Which latents are active in a batch, and the sparse pass through them.

Of tokens * n_latents pre-activations a few in a thousand survive, so everything after the encoder's product works on
those alone: with torch's sparse products on a CPU with MKL, with :mod:`gossamer.sparse.kernels` on a GPU.
"""

import functools
import importlib
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
        latents: latent of each entry, ascending within a token (:meth:`products` takes them in any order, and twice).
        n_latents: number of latents.
    """

    starts: Int[Tensor, "tokens_plus_one"]
    latents: Int[Tensor, "entries"]
    n_latents: int

    @classmethod
    def from_flat(cls, flat: Int[Tensor, "entries"], tokens: int, n_latents: int) -> "Active":
        """From ascending indices into the flattened matrix."""
        counts = counted(flat.div(n_latents, rounding_mode="floor"), tokens)
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
        rows = self.tokens * len(bounds)
        for bound in bounds[:-1]:
            rows = rows + (self.latents >= bound)
        counts = counted(rows, (len(self.starts) - 1) * len(bounds))
        return Active.from_counts(counts, self.latents, self.n_latents)

    @property
    def counts(self) -> Int[Tensor, "tokens"]:
        """Active latents of each token."""
        return self.starts.diff()

    @functools.cached_property
    def tokens(self) -> Int[Tensor, "entries"]:
        """Token of each entry."""
        every = torch.arange(len(self.starts) - 1, device=self.starts.device)
        # Told how many there are, a device need not say so.
        return torch.repeat_interleave(every, self.counts, output_size=len(self.latents))

    @functools.cached_property
    def order(self) -> Int[Tensor, "entries"]:
        """What sorts the entries latent by latent."""
        if self.latents.device.type != "cpu":
            return self.latents.argsort(stable=True)
        # Numbers of 16 bits are sorted by their digits, ten times as fast.
        narrow = self.latents.numpy().astype(np.min_scalar_type(self.n_latents - 1))
        return torch.from_numpy(np.argsort(narrow, kind="stable"))

    def by_latent(self, order: Int[Tensor, "entries"]) -> "Active":
        """The same entries latent by latent (its "tokens" are latents), given the order that sorts them so."""
        counts = counted(self.latents, self.n_latents)
        return Active.from_counts(counts, self.tokens[order], len(self.starts) - 1)

    def sums(self, values: Float[Tensor, "entries"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "tokens d"]:
        """The matrix with these values times `rows`."""
        if runs_kernels(rows.device):
            return _kernels().sums(self.starts, self.latents, values, rows)
        # Up to twice as fast on a CPU as a sparse matrix times a dense one.
        bags = self.starts[:-1]
        return torch.nn.functional.embedding_bag(self.latents, rows, bags, mode="sum", per_sample_weights=values)

    def products(self, left: Float[Tensor, "tokens d"], right: Float[Tensor, "n d"]) -> Float[Tensor, "entries"]:
        """The entries of left @ right.T."""
        if runs_kernels(left.device):
            return _kernels().products(self.starts, self.latents, left, right)
        # Latent by latent, so that of the larger side every row is read once.
        turned = self.by_latent(self.order)
        shape, zeros = (self.n_latents, len(left)), left.new_zeros(len(self.latents))
        empty = torch.sparse_csr_tensor(turned.starts, turned.latents, zeros, shape, check_invariants=False)
        found = torch.sparse.sampled_addmm(empty, right, left.t(), beta=0.0).values()
        return torch.empty_like(found).index_copy_(0, self.order, found)


def counted(indices: Int[Tensor, "entries"], length: int) -> Int[Tensor, "length"]:
    """How often each of the numbers from 0 to `length` - 1 occurs; no device is waited for."""
    return torch.zeros(length, dtype=torch.long, device=indices.device).index_add_(0, indices, torch.ones_like(indices))


@functools.cache
def has_sparse_products(device: torch.device) -> bool:
    """Whether sparse rows can be multiplied on this device: by MKL on a CPU, by our kernels on a GPU with Triton."""
    if device.type != "cpu":
        return runs_kernels(device)
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False
    with warnings.catch_warnings():
        # torch says once in a process that sparse rows are in beta: what is used of them is held by a test.
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1), check_invariants=False)
    return True


@functools.cache
def runs_kernels(device: torch.device) -> bool:
    """Whether :mod:`gossamer.sparse.kernels` does this device's sparse products: a GPU with a Triton that works."""
    return device.type == "cuda" and kernels_work(device)


def kernels_work(device: torch.device) -> bool:
    """Whether kernels can be started; if Triton is there and they cannot, a warning says why."""
    one = torch.ones(1, 1, device=device)
    starts = torch.tensor([0, 1], device=device)
    try:
        kernels = _kernels()
        found = kernels.products(starts, starts[:1], one, one), kernels.sums(starts, starts[:1], one[0], one)
        return all(bool((value == 1).all()) for value in found)
    # A missing compiler, an old GPU, a broken package: whatever it is, masks do the same work.
    except Exception as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == "triton"):
            warnings.warn(f"Triton does not run here ({error}); training goes on without its kernels", stacklevel=2)
        return False


def _kernels() -> Any:
    # Not everybody has Triton, and nobody needs it on a CPU.
    return importlib.import_module("gossamer.sparse.kernels")


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

    Under autocast the sparse products are in float32: they are no time, and in bfloat16 there are none.
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
        # An entry of 0 is one that fills a row: it is chosen, and not active.
        d_values = written.products(gradient, W_dec) * (values != 0)
        order = active.order
        read, decoded = active.by_latent(order), written.by_latent(order)
        d_W_dec = decoded.sums(values[order], gradient)
        d_W_enc = read.sums(d_values[order], x).t()
        # As a product too: sums in no order would differ from run to run on a GPU.
        d_b_enc = read.sums(d_values[order], x.new_ones(len(x), 1))[:, 0]
        d_x = active.sums(d_values, W_enc.t()) if ctx.needs_input_grad[0] else None
        return d_x, d_W_enc, d_b_enc, d_W_dec, None, None, None
