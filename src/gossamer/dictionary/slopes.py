"""Decoder rows, and what pursuit asks of their products with the residuals: the largest, and those in use."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.finite import require_finite
from gossamer.sparse.backend import has_sparse_products
from gossamer.sparse.largest import of_tokens
from gossamer.sparse.latents import SparseLatents
from gossamer.sparse.screen import Encoder, Screen, worth_bounds

# All pairs of rows are multiplied in advance if that takes no more than this many bytes; less where products come
# through bounds: there the pairs of 16,384 rows take longer to make than they save over thousands of tokens.
GRAM_BYTES, GRAM_BYTES_BESIDE_BOUNDS = 2**30, 2**28

# Products of a token that differ by less than this many units of rounding are equal.
_TIES = 32

Tokens = Bool[Tensor, "tokens"] | slice


class Slopes(ABC):
    """The products of every token's residual with every row."""

    @abstractmethod
    def largest(self) -> tuple[Float[Tensor, "tokens"], Int[Tensor, "tokens"]]:
        """The largest product of each token and its latent; a value of 0 where none is positive.

        Of latents whose products are equal, up to rounding, the first: which tokens stand in a batch changes how
        products are rounded, and must not change what is picked.
        """

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


def _ties(values: Tensor) -> float:
    return _TIES * torch.finfo(values.dtype).eps


class Held(Slopes):
    """As the whole matrix of tokens and latents."""

    def __init__(self, products: Float[Tensor, "tokens n"]) -> None:
        self.products = products

    def largest(self) -> tuple[Float[Tensor, "tokens"], Int[Tensor, "tokens"]]:
        """See :class:`Slopes`."""
        values = self.products.amax(dim=1).clamp(min=0)
        nearly = self.products >= (values * (1 - _ties(values)))[:, None]
        # The first of equal ones; on a CPU numbers of one byte are searched faster than torch's max finds an index.
        return values, nearly.byte().argmax(dim=1)

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
        found = of_tokens(Screen(self.residual, self.encoder), 1, _ties(self.residual))
        values, latents = self.residual.new_zeros(len(self.residual)), torch.zeros(len(self.residual), dtype=torch.long)
        first = found.places == 0
        tokens = found.tokens[first]
        values[tokens], latents[tokens] = found.activations[first], found.latents[first]
        return values, latents

    def at(self, indices: Int[Tensor, "tokens slot"]) -> Float[Tensor, "tokens slot"]:
        """See :class:`Slopes`."""
        rows = self.encoder.W_enc.t()
        entries = SparseLatents.from_padded(self.residual.new_zeros(()).expand(indices.shape), indices, len(rows))
        return entries.products(self.residual, rows).reshape(indices.shape)

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
class DecoderRows:
    """Decoder rows of norm 1, with their norms and, where memory allows, the products of all pairs of them."""

    rows: Float[Tensor, "n d"]
    norms: Float[Tensor, "n"]
    gram: Float[Tensor, "n n"] | None

    @classmethod
    def of(cls, w_dec: Float[Tensor, "n d"], gram_bytes: int | None = None) -> "DecoderRows":
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
