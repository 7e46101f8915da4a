r"""How much the model's output minds an error in each direction of a site.

The output is taken as the stream after the final norm, z, and an error in it as the variance over the vocabulary of
the change in the logits, dz^T C dz with C the covariance of the unembedding's rows: a quadratic form that never makes
logits. (A cap on logits, as in Gemma 2, is left out.) To first order an error dx at a site costs dx^T G dx with
G = E[J^T C J], J the Jacobian of all later positions' z in the site's activation.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.token_mask import counted_tokens
from gossamer.batching import in_batches
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.tokens import Tokens
from gossamer.training.seeding import generator

_VOCABULARY_BLOCK = 8192


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
    model: LanguageModel, tokens: Tokens, sites: Sequence[Site], seed: int, *, batch_size: int = 16
) -> dict[Site, Float[Tensor, "d d"]]:
    """G of every site, scaled to trace d, estimated from `tokens` with one random output direction a position.

    One pass forward and one back per batch gives all sites. Memory: the graph of one batch, d^2 values a site.
    """
    last = model.sites("resid_post")[-1]
    values, vectors = torch.linalg.eigh(unembedding_covariance(model))
    root = (vectors * values.clamp(min=0).sqrt()).to(model.device)
    counted = counted_tokens(model, tokens)

    def batch(rows: slice) -> dict[Site, Tensor]:
        with torch.enable_grad(), model.edit({min(sites): lambda value: value.detach().requires_grad_()}):
            read = model.capture(tokens[rows], [*sites, last])
        z = model.anatomy.norm(read[last]).float()
        noise = torch.randn(z.shape[:2] + root.shape[1:], generator=generator(seed, "sensitivity", rows.start))
        output = (z @ root.to(z)) * noise.to(z)
        gradients = torch.autograd.grad(output[tokens.mask[rows].to(z.device)].sum(), [read[site] for site in sites])
        kept = [gradient[counted[rows].to(gradient.device)].float() for gradient in gradients]
        return {site: rows_.t() @ rows_ for site, rows_ in zip(sites, kept, strict=True)}

    advance = begin("what the model's output minds", len(tokens))

    def told(rows: slice) -> dict[Site, Tensor]:
        found = batch(rows)
        advance(rows.stop - rows.start, "")
        return found

    parts = in_batches(len(tokens), batch_size, told)
    sums = {site: torch.stack([part[site] for part in parts]).sum(dim=0) for site in sites}
    return {site: product * (len(product) / product.trace()) for site, product in sums.items()}
