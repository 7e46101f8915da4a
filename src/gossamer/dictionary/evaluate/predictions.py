"""Sums over the predicted tokens of rows of text: cross-entropy, and divergence from other predictions."""

from jaxtyping import Float
from torch import Tensor

from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens


def log_odds(model: LanguageModel, tokens: Tokens) -> Float[Tensor, "batch pos vocab"]:
    """Log-probabilities of the next token at every position but the last, under the model as it is edited now.

    Raises:
        NotFiniteError: logits are not finite.
    """
    return require_finite(model.logits(tokens)[:, :-1], f"logits of {model.name}").float().log_softmax(dim=-1)


def cross_entropy(predicted: Float[Tensor, "batch pos vocab"], tokens: Tokens) -> Float[Tensor, ""]:
    """Minus the log-probability of every next token, in nats, summed in float64."""
    losses = -predicted.gather(-1, tokens.ids[:, 1:, None].to(predicted.device))[..., 0]
    return (losses.double() * tokens.mask[:, 1:].to(losses.device)).sum()


def divergence(
    expected: Float[Tensor, "batch pos vocab"], found: Float[Tensor, "batch pos vocab"], tokens: Tokens
) -> Float[Tensor, ""]:
    """KL(expected || found) at every position that has a next token, in nats, summed in float64."""
    kl = (expected.exp() * (expected - found)).sum(dim=-1)
    return (kl.double() * tokens.mask[:, 1:].to(kl.device)).sum()
