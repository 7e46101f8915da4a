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
from gossamer.dictionary.slopes import DecoderRows
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
    chosen, rows = top_k(dictionary, k), DecoderRows.of(dictionary.W_dec, gram_bytes=0)

    def encode(x: Float[Tensor, "tokens d"]) -> SparseLatents:
        normal, _ = dictionary.normalise(x)
        return refit_latents(normal - dictionary.b_dec, rows, chosen.encode(x))

    return EncodingMethod(dictionary, encode)


def rescaled(dictionary: Dictionary, sample: Float[Tensor, "tokens d"], *, shift: bool = False) -> EncodingMethod:
    """The encoder with one factor a latent that undoes shrinkage, by least squares on `sample`; directions stay.

    With `shift` also one number a latent that is added where it is active: an L1 penalty takes away about a constant. A
    latent that is active on no token of the sample stays as it is. Memory: n^2 values, 4 n^2 with `shift`.

    Raises:
        UsageError: a transcoder.
    """
    dictionary.require_reconstruction("rescaling")
    factors, shifts = _factors_and_shifts(dictionary, sample, shift)

    def encode(x: Float[Tensor, "tokens d"]) -> SparseLatents:
        found = dictionary.encode(x)
        return found.with_activations((found.activations * factors[found.latents] + shifts[found.latents]).clamp(min=0))

    return EncodingMethod(dictionary, encode)


def pursued(
    dictionary: Dictionary, k: int, method: str = "gradient", rows: DecoderRows | None = None
) -> EncodingMethod:
    """Pursuit in at most k steps, without the encoder; `rows` are those of its decoder, if they are made already."""
    return EncodingMethod(dictionary, Pursuit(dictionary, k, method=method, rows=rows).encode)


def _factors_and_shifts(
    dictionary: Dictionary, sample: Float[Tensor, "tokens d"], shift: bool
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """s >= 0 and t that minimise the sum of ||x - b_dec - sum_j (s_j a_j + t_j [a_j > 0]) d_j||^2 over the sample."""
    rows = dictionary.W_dec.double()
    n, kinds = len(rows), 2 if shift else 1
    together = rows.new_zeros(kinds * n, kinds * n)
    towards = rows.new_zeros(kinds * n)
    for block in torch.split(sample, _BLOCK):
        latents = dictionary.encode_dense(block).double()
        terms = torch.cat([latents, (latents > 0).double()], dim=1) if shift else latents
        normal, _ = dictionary.normalise(block)
        together += terms.T @ terms
        towards += (terms * ((normal - dictionary.b_dec).double() @ rows.T).repeat(1, kinds)).sum(dim=0)
    seen = together.diagonal() > 0
    unchanged = torch.cat([torch.ones_like(rows[:, 0]), rows.new_zeros((kinds - 1) * n)])
    # A breath of "stay as it is" makes the system solvable where latents are active together only.
    breath = 1e-6 * together.diagonal() * rows.square().sum(dim=1).repeat(kinds)
    system = together * (rows @ rows.T).repeat(kinds, kinds) + torch.diag(torch.where(seen, breath, 1.0))
    found = torch.linalg.solve(system, torch.where(seen, towards + breath * unchanged, unchanged)).to(dictionary.W_dec)
    return found[:n].clamp(min=0), found[n:] if shift else torch.zeros_like(found)
