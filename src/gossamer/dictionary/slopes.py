"""What pursuit asks of <d_j, r>, the products of all decoder rows with the residuals: the largest, and those in use."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.sparse.active import Active, has_sparse_products
from gossamer.sparse.largest import of_tokens
from gossamer.sparse.screen import Encoder, Screen

Tokens = Bool[Tensor, "tokens"] | slice


class Slopes(ABC):
    """The products of every token's residual with every row."""

    @abstractmethod
    def largest(self) -> tuple[Float[Tensor, "tokens"], Int[Tensor, "tokens"]]:
        """The largest product of each token and its latent; a value of 0 where none is positive."""

    @abstractmethod
    def at(self, indices: Int[Tensor, "tokens slot"]) -> Float[Tensor, "tokens slot"]:
        """Those of some latents."""

    @abstractmethod
    def along(
        self,
        change: Float[Tensor, "some slot"],
        indices: Int[Tensor, "some slot"],
        mapped: Float[Tensor, "some _"],
        tokens: Tokens,
    ) -> Float[Tensor, "some"]:
        """<change D, r> for the chosen tokens, with `change` on the latents `indices`; `mapped` is change D, or
        where the products of all pairs are at hand change D D^T.
        """


class Held(Slopes):
    """As the whole matrix of tokens and latents."""

    def __init__(self, products: Float[Tensor, "tokens n"]) -> None:
        self.products = products

    def largest(self) -> tuple[Float[Tensor, "tokens"], Int[Tensor, "tokens"]]:
        """See :class:`Slopes`."""
        values, latents = self.products.max(dim=1)
        return values.clamp(min=0), latents

    def at(self, indices: Int[Tensor, "tokens slot"]) -> Float[Tensor, "tokens slot"]:
        """See :class:`Slopes`."""
        return self.products.gather(1, indices)

    def along(
        self,
        change: Float[Tensor, "some slot"],
        indices: Int[Tensor, "some slot"],
        mapped: Float[Tensor, "some _"],
        tokens: Tokens,
    ) -> Float[Tensor, "some"]:
        """See :class:`Slopes`."""
        return (self.products[tokens].gather(1, indices) * change).sum(dim=1)


class LookedUp(Slopes):
    """From the residuals, when they are asked for: the largest through bounds (:mod:`gossamer.sparse.screen`)."""

    def __init__(self, residual: Float[Tensor, "tokens d"], encoder: Encoder) -> None:
        self.residual, self.encoder = residual, encoder

    @staticmethod
    def fits(rows: Float[Tensor, "n d"]) -> bool:
        """Whether rows of this type can be looked up on their device."""
        whole = rows.dtype in (torch.float32, torch.float64)
        return whole and rows.device.type == "cpu" and has_sparse_products(rows.device)

    def largest(self) -> tuple[Float[Tensor, "tokens"], Int[Tensor, "tokens"]]:
        """See :class:`Slopes`."""
        found, kept = of_tokens(Screen(self.residual, self.encoder), 1)
        values, latents = self.residual.new_zeros(len(self.residual)), torch.zeros(len(self.residual), dtype=torch.long)
        values[found.tokens], latents[found.tokens] = kept, found.latents
        return values, latents

    def at(self, indices: Int[Tensor, "tokens slot"]) -> Float[Tensor, "tokens slot"]:
        """See :class:`Slopes`."""
        counts = torch.full((len(indices),), indices.shape[1])
        entries = Active.from_counts(counts, indices.reshape(-1), self.encoder.W_enc.shape[1])
        return entries.products(self.residual, self.encoder.W_enc.t()).reshape(indices.shape)

    def along(
        self,
        change: Float[Tensor, "some slot"],
        indices: Int[Tensor, "some slot"],
        mapped: Float[Tensor, "some _"],
        tokens: Tokens,
    ) -> Float[Tensor, "some"]:
        """See :class:`Slopes`."""
        return (self.residual[tokens] * mapped).sum(dim=1)
