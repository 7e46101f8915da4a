r"""A dictionary learned with pursuit in place of an encoder (sparse coding; Olshausen & Field 1996).

Each step finds codes a of a batch by pursuit with the decoder as it is, then moves the decoder along the gradient of
|x - a D - b|^2, the codes held fixed. It is what matching-pursuit SAEs do (Costa et al. 2025, arXiv 2506.03093, as
SynthSAEBench trains them), but that these let the gradient pass through the codes too.
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.dictionary.config import Contents
from gossamer.dictionary.pursuit import pursue
from gossamer.dictionary.slopes import DecoderRows
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.toys.recovery import unit_rows
from gossamer.training.config import FitConfig, OptimiserConfig, learning_rate
from gossamer.training.source import ActivationSource, TurnPlace, batches


def learn_by_pursuit(
    source: ActivationSource,
    n_latents: int,
    ks: Sequence[int],
    fit: FitConfig,
    optimiser: OptimiserConfig,
    seed: int,
    *,
    method: str = "matching",
) -> dict[int, Dictionary]:
    """A dictionary for each k, learned from the same batches of the first site of `source`; see :func:`of_rows`.

    Args:
        ks, method: of the pursuits.
        fit: tokens and batch.
        optimiser: learning rate (for activations of unit variance), warm-up and decay.
        seed: of the first decoder.

    Raises:
        UsageError: as :func:`gossamer.dictionary.pursuit.pursue`.
    """
    site = source.sites[0]
    first = source.first()[site]
    bias = first.mean(dim=0)
    scale = (first - bias).square().mean().sqrt()
    rows = torch.randn(n_latents, len(bias), generator=generator(seed, "pursuit learning")).to(bias)
    decoders = {k: unit_rows(rows).to(bias).requires_grad_() for k in ks}
    adams = {k: torch.optim.Adam([decoder]) for k, decoder in decoders.items()}
    for step, (_, (batch,)) in enumerate(itertools.islice(batches(source, TurnPlace(), fit.batch), fit.steps)):
        x = (batch[site] - bias) / scale
        rate = learning_rate(optimiser.learning_rate, optimiser.warm_up, optimiser.decay, step, fit.steps)
        for k, decoder in decoders.items():
            codes = pursue(x, DecoderRows.of(decoder.detach()), k, method=method).dense()
            adams[k].zero_grad()
            torch.autograd.backward((x - codes @ decoder).square().mean())
            adams[k].param_groups[0]["lr"] = rate
            adams[k].step()
            with torch.no_grad():
                decoder /= decoder.norm(dim=1, keepdim=True)
    return {k: of_rows(decoder.detach(), bias, site, k) for k, decoder in decoders.items()}


def of_rows(rows: Float[Tensor, "latent d"], bias: Float[Tensor, "d"], site: Site, k: int) -> Dictionary:
    """Decoder rows and a bias as a topk dictionary, to be read with :class:`gossamer.dictionary.pursuit.Pursuit`.

    Its encoder is the decoder transposed, which picks as the first step of a pursuit does.
    """
    config = DictionaryConfig("topk", len(bias), len(rows), site=site, k=k)
    tensors = {"W_enc": rows.T.clone(), "b_enc": -(rows @ bias), "W_dec": rows, "b_dec": bias}
    return Dictionary.from_contents(Contents(config, tensors, {}))
