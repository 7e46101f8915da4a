r"""How much the model's output minds an error in each direction of a site.

The output is taken as the stream after the final norm, z, and an error in it as the variance over the vocabulary of
the change in the logits, dz^T C dz with C the covariance of the unembedding's rows: a quadratic form that never makes
logits. (A cap on logits, as in Gemma 2, is left out.) To first order an error dx at a site costs dx^T G dx with
G = E[J^T C J], J the Jacobian of all later positions' z in the site's activation.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.activations.stream import ActivationBatch, ActivationStream
from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.tokens import Tokens

_VOCABULARY_BLOCK = 8192
_DRAWN_ROWS = 16


def unembedding_covariance(model: LanguageModel) -> Float[Tensor, "d_model d_model"]:
    """Covariance of the rows of the unembedding matrix. Memory: a block of 8,192 rows and d_model^2 values.

    Products are in float32, of rows without the first block's mean, and their sums in float64: at 262,144 rows that is
    4e-7 from float64 throughout, and twice as fast.
    """
    total = torch.zeros(model.d_model, dtype=torch.float64)
    products = torch.zeros(model.d_model, model.d_model, dtype=torch.float64)
    with torch.no_grad():
        blocks = torch.split(torch.arange(model.d_vocab), _VOCABULARY_BLOCK)
        about = model.unembedding_rows(blocks[0]).float().mean(dim=0)
        for ids in blocks:
            rows = model.unembedding_rows(ids).float() - about
            total += rows.sum(dim=0, dtype=torch.float64).cpu()
            products += (rows.t() @ rows).double().cpu()
    mean = total / model.d_vocab
    return (products / model.d_vocab - torch.outer(mean, mean)).float()


def sensitivity(
    model: LanguageModel,
    tokens: Tokens,
    sites: Sequence[Site],
    seed: int,
    *,
    mask: TokenMask = DEFAULT_MASK,
    batch_size: int = 8,
) -> dict[Site, Float[Tensor, "d d"]]:
    """G of every site, scaled to trace d, estimated from `tokens` with one random output direction a position.

    One pass forward and one back per batch gives all sites; errors at the tokens that count are meant. Memory:
    the graph of one batch, d^2 values a site.
    """
    last = model.sites("resid_post")[-1]
    values, vectors = torch.linalg.eigh(unembedding_covariance(model))
    root = (vectors * values.clamp(min=0).sqrt()).to(model.device)

    def products(batch: ActivationBatch) -> dict[Site, Tensor]:
        z = model.anatomy.norm(batch.values[last]).float()
        drawn = _directions(stream.order[batch.rows], (*tokens.ids.shape, len(root)), seed)
        output = (z @ root.to(z)) * drawn[:, : z.shape[1]].to(z)
        read = [batch.values[site] for site in sites]
        gradients = torch.autograd.grad(output[batch.tokens.mask.to(z.device)].sum(), read)
        kept = [gradient[batch.mask.to(gradient.device)].float() for gradient in gradients]
        return {site: rows.t() @ rows for site, rows in zip(sites, kept, strict=True)}

    what = "what the model's output minds"
    stream = ActivationStream(
        model, tokens, [*sites, last], mask=mask, batch_size=batch_size, what=what, gradients=True, trimmed=True
    )
    with model.edit({min(sites): lambda value: value.detach().requires_grad_()}):
        parts = stream.map(products)
    sums = {site: torch.stack([part[site] for part in parts]).sum(dim=0) for site in sites}
    return {site: product * (len(product) / product.trace()) for site, product in sums.items()}


def _directions(rows: Int[Tensor, "rows"], shape: tuple[int, int, int], seed: int) -> Float[Tensor, "rows pos d_model"]:
    """Random output directions of some of the rows: drawn by blocks of rows, so that they depend on no batch."""
    found = torch.empty(len(rows), *shape[1:])
    for block in sorted({int(row) // _DRAWN_ROWS for row in rows}):
        start = block * _DRAWN_ROWS
        size = min(_DRAWN_ROWS, shape[0] - start)
        drawn = torch.randn(size, *shape[1:], generator=generator(seed, "sensitivity", start))
        here = rows // _DRAWN_ROWS == block
        found[here] = drawn[rows[here] - start]
    return found
