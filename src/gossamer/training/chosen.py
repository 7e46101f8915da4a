"""The few latents of a batch that a TopK rule lets through, in the form in which the device computes with them best.

Where torch multiplies sparse matrices (the CPU with MKL) that is :class:`gossamer.training.active.Active`; elsewhere a
mask, whose shapes do not depend on the values, so that the device never has to report to the host.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.training.active import Active, batchtopk, has_sparse_products, reconstruct, reconstruct_parts, topk
from gossamer.training.parallel import Processes


@dataclass(frozen=True)
class Chosen(ABC):
    """Which entries of a (token, latent) matrix are active.

    Attributes:
        fired: tokens on which each latent is active.
        smallest: the smallest pre-activation kept (0 if none, float64), where the rule has one for all tokens.
    """

    fired: Int[Tensor, "n"]
    smallest: Float[Tensor, ""] | None

    @abstractmethod
    def reconstruct(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], pre: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "tokens d"]:
        """The active latents times W_dec, differentiable in x and the parameters. b_dec is the caller's to add."""

    @abstractmethod
    def reconstruct_parts(
        self,
        p: Mapping[str, Tensor],
        x: Float[Tensor, "tokens d"],
        pre: Float[Tensor, "tokens n"],
        bounds: Sequence[int],
    ) -> Float[Tensor, "tokens parts d"]:
        """What the latents up to the first bound write, those from there to the second, and so on to the last."""


@dataclass(frozen=True)
class ChosenEntries(Chosen):
    """As sparse rows."""

    active: Active

    @classmethod
    def of(cls, active: Active, smallest: float | None) -> "ChosenEntries":
        """With the counts that every rule needs."""
        fired = torch.bincount(active.latents, minlength=active.n_latents)
        return cls(fired, None if smallest is None else torch.tensor(smallest, dtype=torch.float64), active)

    def reconstruct(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], pre: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "tokens d"]:
        """See :class:`Chosen`."""
        return reconstruct(x, p["W_enc"], p["b_enc"], p["W_dec"], pre, self.active)

    def reconstruct_parts(
        self,
        p: Mapping[str, Tensor],
        x: Float[Tensor, "tokens d"],
        pre: Float[Tensor, "tokens n"],
        bounds: Sequence[int],
    ) -> Float[Tensor, "tokens parts d"]:
        """See :class:`Chosen`."""
        return reconstruct_parts(x, p["W_enc"], p["b_enc"], p["W_dec"], pre, self.active, bounds)


@dataclass(frozen=True)
class ChosenMask(Chosen):
    """As a mask."""

    mask: Bool[Tensor, "tokens n"]

    def reconstruct(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], pre: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "tokens d"]:
        """See :class:`Chosen`."""
        return (pre * self.mask) @ p["W_dec"]

    def reconstruct_parts(
        self,
        p: Mapping[str, Tensor],
        x: Float[Tensor, "tokens d"],
        pre: Float[Tensor, "tokens n"],
        bounds: Sequence[int],
    ) -> Float[Tensor, "tokens parts d"]:
        """See :class:`Chosen`."""
        latents = pre * self.mask
        edges = zip([0, *bounds[:-1]], bounds, strict=True)
        return torch.stack([latents[:, start:end] @ p["W_dec"][start:end] for start, end in edges], dim=1)


def encoded(p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens n"]:
    """x @ W_enc + b_enc: without autograd where the way back is sparse, with it elsewhere."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not has_sparse_products(x.device)):
        # Under autocast the product alone is in bfloat16: what is chosen among, and summed, is not.
        return torch.addmm(p["b_enc"], x, p["W_enc"]).to(p["W_enc"].dtype)


def choose_topk(pre: Float[Tensor, "tokens n"], k: int) -> Chosen:
    """The k largest of each token, those that are positive."""
    if has_sparse_products(pre.device):
        return ChosenEntries.of(topk(pre, k), None)
    values, latents = pre.detach().topk(k, dim=1, sorted=False)
    mask = torch.zeros_like(pre, dtype=torch.bool).scatter(1, latents, values > 0)
    return ChosenMask(mask.sum(dim=0), None, mask)


def choose_batchtopk(
    pre: Float[Tensor, "tokens n"], k: int, floor: float, processes: Processes | None = None
) -> Chosen:
    """The k * tokens largest of the batch, those that are positive. `floor` only saves time, see `batchtopk`.

    Where other `processes` have the rest of the batch, the largest of all of it are chosen.
    """
    if processes is not None and processes.count > 1:
        return _choose_together(pre.detach(), k, processes)
    if has_sparse_products(pre.device):
        return ChosenEntries.of(*batchtopk(pre, k, floor))
    values = pre.detach().reshape(-1).topk(k * len(pre), sorted=False).values.clamp(min=0)
    # Fewer positive ones than wanted: the smallest of those.
    smallest = values.masked_fill(values == 0, torch.inf).min()
    mask = pre.detach() >= smallest
    return ChosenMask(mask.sum(dim=0), torch.where(smallest.isinf(), 0.0, smallest).double(), mask)


def _choose_together(pre: Float[Tensor, "tokens n"], k: int, processes: Processes) -> Chosen:
    wanted = k * processes.sum(torch.tensor(len(pre), device=pre.device))
    smallest = processes.kth_largest(pre.reshape(-1), wanted)
    mask = (pre >= smallest) & (pre > 0)
    kept = processes.least(torch.where(mask, pre, torch.inf).min())
    smallest = torch.where(kept.isinf(), 0.0, kept).double()
    if not has_sparse_products(pre.device):
        return ChosenMask(mask.sum(dim=0), smallest, mask)
    active = Active.from_flat(mask.reshape(-1).nonzero()[:, 0], len(pre), pre.shape[1])
    return ChosenEntries.of(active, float(smallest))
