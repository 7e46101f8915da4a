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

from gossamer.training import largest
from gossamer.training.active import Active, has_sparse_products, reconstruct, reconstruct_parts
from gossamer.training.parallel import Processes
from gossamer.training.screen import Screen


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
    def reconstruct(self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens d"]:
        """The active latents times W_dec, differentiable in x and the parameters. b_dec is the caller's to add."""

    @abstractmethod
    def reconstruct_parts(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], bounds: Sequence[int]
    ) -> Float[Tensor, "tokens parts d"]:
        """What the latents up to the first bound write, those from there to the second, and so on to the last."""


@dataclass(frozen=True)
class ChosenEntries(Chosen):
    """As sparse rows, with the pre-activations there."""

    active: Active
    values: Float[Tensor, "entries"]

    @classmethod
    def of(cls, active: Active, values: Float[Tensor, "entries"], smallest: float | None) -> "ChosenEntries":
        """With the counts that every rule needs."""
        fired = torch.bincount(active.latents, minlength=active.n_latents)
        least = None if smallest is None else torch.tensor(smallest, dtype=torch.float64)
        return cls(fired, least, active, values)

    def reconstruct(self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens d"]:
        """See :class:`Chosen`."""
        return reconstruct(x, p["W_enc"], p["b_enc"], p["W_dec"], self.active, self.values)

    def reconstruct_parts(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], bounds: Sequence[int]
    ) -> Float[Tensor, "tokens parts d"]:
        """See :class:`Chosen`."""
        return reconstruct_parts(x, p["W_enc"], p["b_enc"], p["W_dec"], self.active, self.values, bounds)


@dataclass(frozen=True)
class ChosenMask(Chosen):
    """As a mask on the pre-activations, which autograd knows."""

    mask: Bool[Tensor, "tokens n"]
    pre: Float[Tensor, "tokens n"]

    @classmethod
    def of(
        cls, mask: Bool[Tensor, "tokens n"], pre: Float[Tensor, "tokens n"], smallest: Tensor | None
    ) -> "ChosenMask":
        """With the counts that every rule needs."""
        return cls(mask.sum(dim=0), smallest, mask, pre)

    def reconstruct(self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens d"]:
        """See :class:`Chosen`."""
        return (self.pre * self.mask) @ p["W_dec"]

    def reconstruct_parts(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], bounds: Sequence[int]
    ) -> Float[Tensor, "tokens parts d"]:
        """See :class:`Chosen`."""
        latents = self.pre * self.mask
        edges = zip([0, *bounds[:-1]], bounds, strict=True)
        return torch.stack([latents[:, start:end] @ p["W_dec"][start:end] for start, end in edges], dim=1)


def choose_topk(p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], k: int) -> Chosen:
    """The k largest pre-activations of each token, those that are positive."""
    if has_sparse_products(x.device):
        return ChosenEntries.of(*largest.of_tokens(_screen(p, x), k), None)
    pre = _encoded(p, x)
    values, latents = pre.detach().topk(k, dim=1, sorted=False)
    return ChosenMask.of(torch.zeros_like(pre, dtype=torch.bool).scatter(1, latents, values > 0), pre, None)


def choose_batchtopk(
    p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], k: int, floor: float, processes: Processes | None = None
) -> Chosen:
    """The k * tokens largest of the batch, those that are positive. `floor` only saves time, see `largest.of_batch`.

    Where other `processes` have the rest of the batch, the largest of all of it are chosen.
    """
    if has_sparse_products(x.device):
        return ChosenEntries.of(*largest.of_batch(_screen(p, x), k, floor, processes))
    pre = _encoded(p, x)
    if processes is not None and processes.count > 1:
        return _choose_together(pre, k, processes)
    values = pre.detach().reshape(-1).topk(k * len(pre), sorted=False).values.clamp(min=0)
    # Fewer positive ones than wanted: the smallest of those.
    smallest = values.masked_fill(values == 0, torch.inf).min()
    mask = pre.detach() >= smallest
    return ChosenMask.of(mask, pre, torch.where(smallest.isinf(), 0.0, smallest).double())


def _screen(p: Mapping[str, Tensor], x: Tensor) -> Screen:
    return Screen(x, p["W_enc"], p["b_enc"])


def _encoded(p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens n"]:
    # Under autocast the product alone is in bfloat16: what is chosen among, and summed, is not.
    return torch.addmm(p["b_enc"], x, p["W_enc"]).to(p["W_enc"].dtype)


def _choose_together(pre: Float[Tensor, "tokens n"], k: int, processes: Processes) -> Chosen:
    values = pre.detach()
    wanted = k * processes.sum(torch.tensor(len(pre), device=pre.device))
    smallest = processes.kth_largest(values.reshape(-1), wanted)
    mask = (values >= smallest) & (values > 0)
    kept = processes.least(torch.where(mask, values, torch.inf).min())
    return ChosenMask.of(mask, pre, torch.where(kept.isinf(), 0.0, kept).double())
