"""What two models predict, held against each other: cross-entropy and KL, in blocks that never hold all logits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.batching import distinct_rows
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens

# Logits of one model that are in memory at a time: 64 positions of a vocabulary of 262,144.
_BLOCK_VALUES = 2**24
# Of several models, so many rows go through the head together at most: a product of few rows is at half its speed.
_TOGETHER = 4


@dataclass(frozen=True)
class PredictionSums:
    """Sums over the predicted tokens, in nats, float64.

    Attributes:
        cross_entropy: minus the log-probability of each next token.
        kl: KL(reference || this model) of each next token's distribution; 0 for the reference itself.
    """

    cross_entropy: Float[Tensor, ""]
    kl: Float[Tensor, ""]


def predicting(tokens: Tokens) -> Bool[Tensor, "batch before_last"]:
    """True at the positions that have a next token: both are real tokens. The last position has none."""
    return tokens.mask[:, :-1] & tokens.mask[:, 1:]


def log_probabilities(model: LanguageModel, stream: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens vocab"]:
    """Float32 log-probabilities of the next token from the last layer's stream.

    Raises:
        NotFiniteError: logits are not finite.
    """
    return require_finite(model.unembed(stream), f"logits of {model.title}").float().log_softmax(dim=-1)


@torch.no_grad()
def compare_predictions(
    model: LanguageModel,
    reference: Float[Tensor, "batch pos d_model"],
    streams: Mapping[str, Float[Tensor, "batch pos d_model"]],
    tokens: Tokens,
) -> tuple[Float[Tensor, ""], dict[str, PredictionSums]]:
    """Cross-entropy of the text under `reference`, and what each of `streams` makes of it, as sums.

    All are streams after the last layer (before the final norm) at every position of the rows; the next token of each
    position that has one is predicted. The head runs once for rows of a stream that are equal, as those of an ablated
    site. Memory: seven times 2**24 logits in float32, however large the vocabulary.

    Raises:
        NotFiniteError: logits are not finite.
    """
    total = torch.zeros((), dtype=torch.float64)
    sums = {name: PredictionSums(total.clone(), total.clone()) for name in streams}
    for own, others, following in _blocks(model, reference, streams, tokens):
        predicted = _predicted(model, [own, *others.values()])
        expected = next(predicted)
        total += _cross_entropy(expected, following)
        probabilities = expected.exp()
        for name in others:
            found = next(predicted)
            sums[name].cross_entropy.add_(_cross_entropy(found, following))
            # In place, as log-probabilities are as large as anything here.
            kl = found.sub_(expected).mul_(probabilities).sum(dim=-1)
            sums[name].kl.sub_(kl.double().sum().cpu())
    return total, sums


def _predicted(
    model: LanguageModel, streams: Sequence[Float[Tensor, "tokens d_model"]]
) -> Iterator[Float[Tensor, "tokens vocab"]]:
    """Log-probabilities of every stream in turn; rows that are equal go through the head once, streams together."""
    distinct = [distinct_rows(stream) for stream in streams]
    kinds = [stream[first] for stream, (first, _) in zip(streams, distinct, strict=True)]
    room = _TOGETHER * len(streams[0])
    place = 0
    while place < len(kinds):
        stop = place + 1
        while stop < len(kinds) and sum(map(len, kinds[place : stop + 1])) <= room:
            stop += 1
        logits = model.unembed(torch.cat(kinds[place:stop]))
        logits = require_finite(logits, f"logits of {model.title}")
        parts = torch.split(logits, [len(one) for one in kinds[place:stop]])
        for part, (_, kind) in zip(parts, distinct[place:stop], strict=True):
            found = part.float().log_softmax(dim=-1)
            yield found if len(found) == len(kind) else found[kind]
        place = stop


def divergence(
    model: LanguageModel, reference: Float[Tensor, "tokens d_model"], stream: Float[Tensor, "tokens d_model"]
) -> Float[Tensor, "tokens"]:
    """KL(what `reference` predicts || what `stream` predicts) of each next token, in nats, differentiable in `stream`.

    Both are streams after the last layer. The gradient is taken block by block together with the value, so that the
    graph holds no logits. Memory: four times 2**24 logits in float32, however many tokens.

    Raises:
        NotFiniteError: logits are not finite.
    """
    found: Tensor = _Divergence.apply(stream, reference, model)  # type: ignore[no-untyped-call]
    return found


class _Divergence(torch.autograd.Function):
    """The gradient of KL(p || softmax(l)) in the logits l is softmax(l) - p, which needs no graph of the KL."""

    @staticmethod
    def forward(ctx: Any, stream: Tensor, reference: Tensor, model: LanguageModel) -> Tensor:
        size = max(1, _BLOCK_VALUES // model.d_vocab)
        parts = zip(torch.split(stream, size), torch.split(reference, size), strict=True)
        found = [_divergence(model, own, wanted, ctx.needs_input_grad[0]) for own, wanted in parts]
        ctx.save_for_backward(torch.cat([gradient for _, gradient in found]))
        return torch.cat([value for value, _ in found])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].unsqueeze(-1).to(gradient), None, None


def _divergence(
    model: LanguageModel, stream: Float[Tensor, "tokens d"], reference: Float[Tensor, "tokens d"], with_gradient: bool
) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens d"]]:
    expected = log_probabilities(model, reference)
    probabilities = expected.exp()
    with torch.set_grad_enabled(with_gradient):
        read = stream.detach().requires_grad_(with_gradient)
        logits = model.unembed(read)
    found = require_finite(logits.detach(), f"logits of {model.title}").float().log_softmax(dim=-1)
    kl = expected.sub_(found).mul_(probabilities).sum(dim=-1)
    if not with_gradient:
        return kl, stream
    (gradient,) = torch.autograd.grad(logits, read, found.exp_().sub_(probabilities).to(logits.dtype))
    return kl, gradient


def _blocks(
    model: LanguageModel, reference: Tensor, streams: Mapping[str, Tensor], tokens: Tokens
) -> Iterator[tuple[Tensor, dict[str, Tensor], Int[Tensor, "tokens"]]]:
    """Streams at some of the predicting positions, and the tokens that follow.

    Position by position: where rows are equal, as those of an ablated site, a block then has few kinds of rows.
    """
    positions, rows = predicting(tokens).t().nonzero().unbind(dim=1)
    for part in torch.split(torch.arange(len(rows)), max(1, _BLOCK_VALUES // model.d_vocab)):
        row, position = rows[part].to(reference.device), positions[part].to(reference.device)
        chosen = {name: stream[row, position] for name, stream in streams.items()}
        yield reference[row, position], chosen, tokens.ids[rows[part], positions[part] + 1]


def _cross_entropy(predicted: Float[Tensor, "tokens vocab"], following: Int[Tensor, "tokens"]) -> Float[Tensor, ""]:
    return -predicted.gather(-1, following.to(predicted.device)[:, None]).double().sum().cpu()
