"""What a set of dictionaries, all spliced in at once, leaves of the model's predictions."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.token_mask import counted_tokens
from gossamer.batching import in_batches
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import compare_predictions, predicting
from gossamer.model.site import Site
from gossamer.replacement.evaluate.measure import site_means
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.tokens import Tokens

CE_RECOVERED = "(CE with every site at its mean - CE spliced) / (CE with every site at its mean - CE of the model)"
_BATCH = 16


@dataclass(frozen=True)
class Quality:
    """Predictions of the next token, per predicted token, in nats; BOS passes through every dictionary.

    Attributes:
        kl: KL(model || model with all dictionaries spliced in, errors dropped).
        ce_model: cross-entropy of the text under the model.
        ce_spliced: the same with all dictionaries spliced in.
        ce_mean: the same with every site replaced by its mean over the text.
        tokens: number of predicted tokens.
    """

    kl: float
    ce_model: float
    ce_spliced: float
    ce_mean: float
    tokens: int

    @property
    def ce_recovered(self) -> float:
        """By the formula in CE_RECOVERED: 1 if nothing is lost, 0 if no more is left than with the means."""
        return (self.ce_mean - self.ce_spliced) / (self.ce_mean - self.ce_model)


def quality(
    model: LanguageModel, dictionaries: Mapping[Site, Dictionary], tokens: Tokens, *, batch_size: int = _BATCH
) -> Quality:
    """Measure `dictionaries` together on rows of text.

    Memory: the streams of one batch at all sites, and what `compare_predictions` takes.

    Raises:
        UsageError: no row has two tokens.
        NotFiniteError: logits are not finite.
    """
    predicted = int(predicting(tokens).sum())
    if not predicted:
        raise UsageError("measuring predictions needs rows of at least two tokens; give more text")
    kept = counted_tokens(model, tokens)
    means = site_means(model, list(dictionaries), tokens, kept, batch_size)

    network, last = ReplacementModel(model, dictionaries), model.sites("resid_post")[-1]

    def batch(rows: slice) -> Float[Tensor, "four"]:
        some, here = tokens[rows], kept[rows]
        with torch.no_grad():
            own = model.capture(some, sorted({network.start, last}))
            prefix = own[network.start]
            spliced = network.capture(some, here, [last], prefix=prefix)[last]
            averaged = network.capture(
                some, here, [last], prefix=prefix, reconstruct=lambda site, x: means[site].to(x).expand_as(x)
            )[last]
        ce, found = compare_predictions(model, own[last], {"spliced": spliced, "mean": averaged}, some)
        return torch.stack([found["spliced"].kl, ce, found["spliced"].cross_entropy, found["mean"].cross_entropy])

    sums = torch.stack(in_batches(len(tokens), batch_size, batch)).sum(dim=0) / predicted
    kl, ce_model, ce_spliced, ce_mean = sums.tolist()
    return Quality(kl, ce_model, ce_spliced, ce_mean, predicted)
