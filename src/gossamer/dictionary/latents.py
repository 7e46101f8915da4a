"""Sparse latents: the few active latents of each token, as values and indices."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class SparseLatents:
    """Active latents of each token, strongest first. An entry whose value is 0 is padding: latents are never negative.

    Memory: tokens * width * (8 bytes + one value), against tokens * n_latents * one value when dense.

    Attributes:
        values: activations, >= 0.
        indices: which latent each value belongs to; distinct within a token.
        n_latents: number of latents of the dictionary.
    """

    values: Float[Tensor, "*tokens width"]
    indices: Int[Tensor, "*tokens width"]
    n_latents: int

    def dense(self) -> Float[Tensor, "*tokens n_latents"]:
        """The same as a dense tensor (tokens * n_latents values of memory); differentiable in `values`."""
        zeros = self.values.new_zeros((*self.values.shape[:-1], self.n_latents))
        # Adding, not writing: padding may repeat the index of an active latent.
        return zeros.scatter_add(-1, self.indices, self.values)

    @property
    def l0(self) -> Int[Tensor, "*tokens"]:
        """Number of active latents of each token."""
        return (self.values > 0).sum(dim=-1)

    def to(self, device: torch.device | str) -> "SparseLatents":
        """The same latents on `device`."""
        return SparseLatents(self.values.to(device), self.indices.to(device), self.n_latents)

    @classmethod
    def from_dense(cls, activations: Float[Tensor, "*tokens n"], width: int | None = None) -> "SparseLatents":
        """Keep the `width` largest activations of each token (default: as many as the busiest token has, or 1)."""
        if width is None:
            counts = (activations > 0).sum(dim=-1)
            # embedding_bag, which decodes, cannot take a width of 0
            width = max(1, int(counts.max())) if counts.numel() else 1
        values, indices = activations.topk(width, dim=-1)
        return cls(values, indices, activations.shape[-1])


def concatenate(parts: list[SparseLatents]) -> SparseLatents:
    """Join along the first axis, padding narrower parts with zeros at index 0. `parts` must not be empty."""
    width = max(part.values.shape[-1] for part in parts)

    def widened(tensor: Tensor) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]))

    values = torch.cat([widened(part.values) for part in parts])
    indices = torch.cat([widened(part.indices) for part in parts])
    return SparseLatents(values, indices, parts[0].n_latents)
