"""Other ways to find the codes of a trained dictionary, as Smith 2024 and appendix A of arXiv 2404.16014 compare them.

Each is a :class:`EncodingMethod`, for :func:`evaluate_methods`. They separate what an encoder gets wrong: how strongly
latents are active (:func:`rescaled`, :func:`refit`) and which of them are (:func:`pursued`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.encoding_method import EncodingMethod
from gossamer.dictionary.pursuit import Pursuit, refit_latents
from gossamer.dictionary.slopes import Rows
from gossamer.sparse.latents import SparseLatents

_BLOCK = 4096


def encoded(dictionary: Dictionary) -> EncodingMethod:
    """The dictionary's own encoder."""
    return EncodingMethod(dictionary, dictionary.encode)


def top_k(dictionary: Dictionary, k: int) -> EncodingMethod:
    """The encoder's k strongest latents of each token, by activation times the norm of the decoder row."""
    norms = dictionary.W_dec.norm(dim=1)

    def encode(x: Float[Tensor, "tokens d"]) -> SparseLatents:
        found = dictionary.encode(x)
        return found.strongest(k, found.activations * norms[found.latents])

    return EncodingMethod(dictionary, encode)


def refit(dictionary: Dictionary, k: int) -> EncodingMethod:
    """The encoder's k strongest latents with the non-negative weights that leave the smallest error.

    Raises:
        UsageError: a transcoder.
    """
    dictionary.require_reconstruction("reweighting")
    chosen, rows = top_k(dictionary, k), Rows.of(dictionary.W_dec, gram_bytes=0)

    def encode(x: Float[Tensor, "tokens d"]) -> SparseLatents:
        normal, _ = dictionary.normalise(x)
        return refit_latents(normal - dictionary.b_dec, rows, chosen.encode(x))

    return EncodingMethod(dictionary, encode)


def rescaled(dictionary: Dictionary, sample: Float[Tensor, "tokens d"]) -> EncodingMethod:
    """The encoder with one factor a latent that undoes shrinkage, by least squares on `sample`; directions stay.

    A latent that is active on no token of the sample keeps the factor 1. Memory: n^2 values.

    Raises:
        UsageError: a transcoder.
    """
    dictionary.require_reconstruction("rescaling")
    factors = _factors(dictionary, sample)

    def encode(x: Float[Tensor, "tokens d"]) -> SparseLatents:
        found = dictionary.encode(x)
        return found.with_activations(found.activations * factors[found.latents])

    return EncodingMethod(dictionary, encode)


def pursued(dictionary: Dictionary, k: int, method: str = "gradient", rows: Rows | None = None) -> EncodingMethod:
    """Pursuit in at most k steps, without the encoder; `rows` are those of its decoder, if they are made already."""
    return EncodingMethod(dictionary, Pursuit(dictionary, k, method=method, rows=rows).encode)


def _factors(dictionary: Dictionary, sample: Float[Tensor, "tokens d"]) -> Float[Tensor, "n"]:
    """Factors s >= 0 that minimise the sum of ||x - b_dec - sum_j s_j a_j d_j||^2 over the sample."""
    rows = dictionary.W_dec.double()
    together = rows.new_zeros(len(rows), len(rows))
    towards = rows.new_zeros(len(rows))
    for block in torch.split(sample, _BLOCK):
        latents = dictionary.encode_dense(block).double()
        normal, _ = dictionary.normalise(block)
        together += latents.T @ latents
        towards += (latents * ((normal - dictionary.b_dec).double() @ rows.T)).sum(dim=0)
    seen = together.diagonal() > 0
    # A breath of "keep the factor at 1" makes the system solvable where latents are active together only.
    breath = 1e-6 * together.diagonal() * rows.square().sum(dim=1)
    system = together * (rows @ rows.T) + torch.diag(torch.where(seen, breath, 1.0))
    found = torch.linalg.solve(system, torch.where(seen, towards + breath, 1.0))
    return found.clamp(min=0).to(dictionary.W_dec)
