"""Decoder rows, and what pursuit asks of their products with the residuals: the largest, and those in use."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.finite import require_finite
from gossamer.sparse.active import Active, has_sparse_products
from gossamer.sparse.largest import of_tokens
from gossamer.sparse.screen import Encoder, Screen, worth_bounds

# All pairs of rows are multiplied in advance if that takes no more than this many bytes; less where products come
# through bounds: there the pairs of 16,384 rows take longer to make than they save over thousands of tokens.
GRAM_BYTES, GRAM_BYTES_BESIDE_BOUNDS = 2**30, 2**28

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


@dataclass(frozen=True)
class Rows:
    """Decoder rows of norm 1, with their norms and, where memory allows, the products of all pairs of them."""

    rows: Float[Tensor, "n d"]
    norms: Float[Tensor, "n"]
    gram: Float[Tensor, "n n"] | None

    @classmethod
    def of(cls, w_dec: Float[Tensor, "n d"], gram_bytes: int | None = None) -> "Rows":
        """Of a decoder; a row of norm 0 is never picked. Memory: n * d values, and n * n for the products.

        `gram_bytes` is what these may take: 2**30 by default, 2**28 where the CPU multiplies in bfloat16.
        """
        norms = require_finite(w_dec, "decoder").norm(dim=1)
        rows = w_dec / norms.clamp(min=torch.finfo(w_dec.dtype).tiny)[:, None]
        if gram_bytes is None:
            gram_bytes = GRAM_BYTES_BESIDE_BOUNDS if LookedUp.fits(rows) and worth_bounds(rows.T) else GRAM_BYTES
        small = len(rows) ** 2 * rows.element_size() <= gram_bytes
        return cls(rows, norms, rows @ rows.T if small else None)

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The same rows as an encoder without biases."""
        return Encoder(self.rows.T, self.rows.new_zeros(len(self.rows)))

    def slopes(self, residual: Float[Tensor, "tokens d"]) -> Slopes:
        """The products of all rows with the residuals."""
        if self.gram is None and LookedUp.fits(self.rows):
            return LookedUp(residual, self.encoder)
        return Held(residual @ self.rows.T)
