"""What a set of dictionaries, all spliced in at once, leaves of the model's predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.stream import BATCH, ActivationBatch, ActivationStream
from gossamer.activations.token_mask import TokenMask
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import compare_predictions, predicting
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.tokens import Tokens

CE_RECOVERED = "(CE with every site at its mean - CE spliced) / (CE with every site at its mean - CE of the model)"


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
    model: LanguageModel,
    dictionaries: Mapping[Site, Dictionary],
    tokens: Tokens,
    *,
    mask: TokenMask | None = None,
    batch_size: int = BATCH,
) -> Quality:
    """Measure `dictionaries` together on rows of text; tokens that do not count pass through all of them.

    Tokens that count are those of `mask`, by default those on which all of the dictionaries learned.

    Memory: the streams of one batch at all sites, and what `compare_predictions` takes.

    Raises:
        UsageError: no row has two tokens, or no token counts.
        NotFiniteError: activations or logits are not finite.
    """
    predicted = int(predicting(tokens).sum())
    if not predicted:
        raise UsageError("measuring predictions needs rows of at least two tokens; give more text")
    counted = counted_for(model, dictionaries.values(), tokens, mask)
    network, last = ReplacementModel(model, dictionaries), model.sites("resid_post")[-1]
    sites = sorted({*dictionaries, network.start, last})
    stream = ActivationStream(model, tokens, sites, mask=counted, batch_size=batch_size, keep=True, trimmed=True)
    means = stream.means(list(dictionaries))

    def compared(batch: ActivationBatch) -> Float[Tensor, "four"]:
        prefix = batch.values[network.start]
        streams = {
            "spliced": network.capture(batch.tokens, batch.mask, [last], prefix=prefix)[last],
            "mean": network.capture_ablated(batch.tokens, batch.mask, last, means, prefix),
        }
        ce, found = compare_predictions(model, batch.values[last], streams, batch.tokens)
        return torch.stack([found["spliced"].kl, ce, found["spliced"].cross_entropy, found["mean"].cross_entropy])

    sums = torch.stack(replace(stream, what="measuring predictions").map(compared)).sum(dim=0) / predicted
    kl, ce_model, ce_spliced, ce_mean = sums.tolist()
    return Quality(kl, ce_model, ce_spliced, ce_mean, predicted)
