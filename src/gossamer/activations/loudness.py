"""Whether a few loud tokens carry the variance: then an explained variance says nothing of all others."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

# The loudest tokens are so large a share of all, and carry the variance from this share of it on.
_LOUDEST, _CARRIED = 0.01, 0.5


class LoudTokensWarning(UserWarning):
    """A few tokens, unlike all others, carry most of the variance of activations."""


def carried_by_loudest(deviations: Float[Tensor, "tokens"]) -> float:
    """Share of the variance that the loudest hundredth of the tokens (at least one) carries.

    Args:
        deviations: squared distance of each token's activation from their mean.
    """
    count = max(1, round(_LOUDEST * len(deviations)))
    total = deviations.sum(dtype=torch.float64)
    return float(deviations.topk(count).values.sum(dtype=torch.float64) / total) if total > 0 else 0.0


def warn_of_loud_tokens(deviations: Float[Tensor, "tokens"], where: str) -> None:
    """Warn (:class:`LoudTokensWarning`) if the loudest hundredth of the tokens carries half of the variance or more."""
    if (share := carried_by_loudest(deviations)) >= _CARRIED:
        warnings.warn(
            f"activations at {where}: the loudest hundredth of the tokens carries {share:.0%} of the variance, so that "
            "little is learned and said of all others; leave them out (--leave-out-louder 10, or TokenMask(loud=...))",
            LoudTokensWarning,
            stacklevel=2,
        )
