"""What a set of dictionaries, all spliced in at once, leaves of the model's predictions."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.dictionary.attach import counted_tokens
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.evaluate.predictions import cross_entropy, divergence, log_odds
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
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

    Memory: three times the logits of one batch (batch * pos * vocabulary).

    Raises:
        UsageError: no row has two tokens.
        NotFiniteError: logits are not finite.
    """
    predicted = tokens.mask[:, 1:].sum().item()
    if not predicted:
        raise UsageError("measuring predictions needs rows of at least two tokens; give more text")
    kept = counted_tokens(model, tokens)
    means = _means(model, dictionaries, tokens, kept, batch_size)

    def batch(rows: slice) -> Float[Tensor, "four"]:
        with torch.no_grad():
            return _sums(model, dictionaries, means, tokens[rows], kept[rows])

    sums = torch.stack(in_batches(len(tokens), batch_size, batch)).sum(dim=0) / predicted
    kl, ce_model, ce_spliced, ce_mean = sums.tolist()
    return Quality(kl, ce_model, ce_spliced, ce_mean, int(predicted))


def _means(
    model: LanguageModel, dictionaries: Mapping[Site, Dictionary], tokens: Tokens, kept: Tensor, batch_size: int
) -> dict[Site, Tensor]:
    def batch(rows: slice) -> dict[Site, Tensor]:
        with torch.no_grad():
            captured = model.capture(tokens[rows], list(dictionaries))
        return {site: x[kept[rows].to(x.device)].double().sum(dim=0) for site, x in captured.items()}

    parts = in_batches(len(tokens), batch_size, batch)
    return {site: torch.stack([part[site] for part in parts]).sum(dim=0) / int(kept.sum()) for site in dictionaries}


def _sums(
    model: LanguageModel,
    dictionaries: Mapping[Site, Dictionary],
    means: Mapping[Site, Tensor],
    tokens: Tokens,
    kept: Tensor,
) -> Float[Tensor, "four"]:
    def edited(replacement: Callable[[Site, Tensor], Tensor]) -> Tensor:
        def edit(site: Site, stream: Tensor) -> Tensor:
            return torch.where(kept.to(stream.device)[..., None], replacement(site, stream).to(stream), stream)

        with model.edit({site: functools.partial(edit, site) for site in dictionaries}):
            return log_odds(model, tokens)

    untouched = log_odds(model, tokens)
    spliced = edited(lambda site, stream: dictionaries[site](stream))
    averaged = edited(lambda site, stream: means[site].expand_as(stream))
    losses = [cross_entropy(predicted, tokens) for predicted in (untouched, spliced, averaged)]
    return torch.stack([divergence(untouched, spliced, tokens), *losses]).cpu()
