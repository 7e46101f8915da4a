"""The few latents of a batch that a TopK rule lets through, in the form in which the device computes with them best.

Where sparse rows can be multiplied (a CPU with MKL, a GPU with Triton) that is :class:`SparseLatents`;
elsewhere, and for the batch rules on several GPUs, a mask. Except on a CPU shapes do not depend on the values, so that
the device never has to report to the host.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.sparse import largest
from gossamer.sparse.backend import has_sparse_products
from gossamer.sparse.latents import SparseLatents
from gossamer.sparse.reconstruction import reconstruct, reconstruct_parts
from gossamer.sparse.screen import Encoder, Screen
from gossamer.training.parallel import Processes


@dataclass(frozen=True)
class ChosenLatents(ABC):
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
class ChosenEntries(ChosenLatents):
    """As sparse rows, with the pre-activations there."""

    latents: SparseLatents

    @classmethod
    def of(cls, latents: SparseLatents, smallest: Tensor | None) -> "ChosenEntries":
        """With the counts that every rule needs."""
        fired = torch.zeros(latents.n_latents, dtype=torch.long, device=latents.latents.device)
        return cls(fired.index_add_(0, latents.latents, (latents.activations > 0).long()), smallest, latents)

    @classmethod
    def at(
        cls, pre: Float[Tensor, "tokens n"], flat: Int[Tensor, "entries"], *, one_threshold: bool
    ) -> "ChosenEntries":
        """At these indices into the flattened matrix, where it is positive. Sizes do not depend on the values."""
        flat = flat.sort().values
        values = pre.reshape(-1)[flat].clamp(min=0)
        latents = SparseLatents.from_flat(flat, values, *pre.shape)
        return cls.of(latents, _smallest(values) if one_threshold else None)

    def reconstruct(self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens d"]:
        """See :class:`ChosenLatents`."""
        return reconstruct(x, p["W_enc"], p["b_enc"], p["W_dec"], self.latents)

    def reconstruct_parts(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], bounds: Sequence[int]
    ) -> Float[Tensor, "tokens parts d"]:
        """See :class:`ChosenLatents`."""
        return reconstruct_parts(x, p["W_enc"], p["b_enc"], p["W_dec"], self.latents, bounds)


@dataclass(frozen=True)
class ChosenMask(ChosenLatents):
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
        """See :class:`ChosenLatents`."""
        return (self.pre * self.mask) @ p["W_dec"]

    def reconstruct_parts(
        self, p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], bounds: Sequence[int]
    ) -> Float[Tensor, "tokens parts d"]:
        """See :class:`ChosenLatents`."""
        latents = self.pre * self.mask
        edges = zip([0, *bounds[:-1]], bounds, strict=True)
        return torch.stack([latents[:, start:end] @ p["W_dec"][start:end] for start, end in edges], dim=1)


def choose_topk(p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], k: int) -> ChosenLatents:
    """The k largest pre-activations of each token, those that are positive."""
    if _by_screen(x.device):
        return ChosenEntries.of(largest.of_tokens(_screen(p, x), k), None)
    pre = _encoded(p, x, graph=not has_sparse_products(x.device))
    values, latents = pre.detach().topk(k, dim=1, sorted=False)
    if has_sparse_products(x.device):
        firsts = torch.arange(0, pre.numel(), pre.shape[1], device=x.device)
        return ChosenEntries.at(pre, (firsts[:, None] + latents).reshape(-1), one_threshold=False)
    return ChosenMask.of(torch.zeros_like(pre, dtype=torch.bool).scatter(1, latents, values > 0), pre, None)


def choose_batchtopk(
    p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], k: int, floor: float, processes: Processes | None = None
) -> ChosenLatents:
    """The k * tokens largest of the batch, those that are positive. `floor` only saves time, see `largest.of_batch`.

    Where other `processes` have the rest of the batch, the largest of all of it are chosen.
    """
    if _by_screen(x.device):
        latents, smallest = largest.of_batch(_screen(p, x), k, floor, processes)
        return ChosenEntries.of(latents, torch.tensor(smallest, dtype=torch.float64))
    if processes is not None and processes.count > 1:
        return _choose_together(_encoded(p, x, graph=True), k, processes)
    pre = _encoded(p, x, graph=not has_sparse_products(x.device))
    values, flat = pre.detach().reshape(-1).topk(k * len(pre), sorted=False)
    if has_sparse_products(x.device):
        return ChosenEntries.at(pre, flat, one_threshold=True)
    least = _smallest(values)
    return ChosenMask.of((pre.detach() >= least) & (pre.detach() > 0), pre, least)


def _by_screen(device: torch.device) -> bool:
    """Where looking at values costs nothing, only those that may be among the largest are computed at all."""
    return device.type == "cpu" and has_sparse_products(device)


def _smallest(values: Tensor) -> Float[Tensor, ""]:
    """The smallest positive one; 0 if there is none."""
    return _or_zero(torch.where(values > 0, values, torch.inf).min())


def _or_zero(least: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return torch.where(least.isinf(), 0.0, least).double()


def _screen(p: Mapping[str, Tensor], x: Tensor) -> Screen:
    return Screen(x, Encoder(p["W_enc"], p["b_enc"]))


def _encoded(p: Mapping[str, Tensor], x: Float[Tensor, "tokens d"], *, graph: bool) -> Float[Tensor, "tokens n"]:
    # The way back through entries is sparse and needs no graph; that through a mask does.
    with torch.set_grad_enabled(torch.is_grad_enabled() and graph):
        # Under autocast the product alone is in bfloat16: what is chosen among, and summed, is not.
        return torch.addmm(p["b_enc"], x, p["W_enc"]).to(p["W_enc"].dtype)


def _choose_together(pre: Float[Tensor, "tokens n"], k: int, processes: Processes) -> ChosenLatents:
    values = pre.detach()
    wanted = k * processes.sum(torch.tensor(len(pre), device=pre.device))
    smallest = processes.kth_largest(values.reshape(-1), wanted)
    mask = (values >= smallest) & (values > 0)
    return ChosenMask.of(mask, pre, _or_zero(processes.least(torch.where(mask, values, torch.inf).min())))
