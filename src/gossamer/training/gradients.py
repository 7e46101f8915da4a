"""What one batch says about a dictionary: everything that an update needs, in a form that parts can be joined in."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Gradients:
    """Gradients and measurements of one batch. Nothing in here has been read by the host.

    Several of them, from parts of a batch (gradient accumulation, data parallel), become one: `averaged` and
    `parameters` as means weighted by tokens, `fired` and `tokens` as sums.

    Attributes:
        parameters: gradient by parameter name.
        averaged: scalars: loss (the objective's own), auxiliary_loss (what was added for dead latents),
            explained_variance (in the metric of the loss), l0, dead (share of the latents); for rules with a threshold,
            smallest.
        fired: tokens on which each latent was active.
        tokens: tokens of the batch.
    """

    parameters: dict[str, Tensor]
    averaged: dict[str, Float[Tensor, ""]]
    fired: Int[Tensor, "n"]
    tokens: int

    @classmethod
    def joined(cls, parts: Sequence["Gradients"]) -> "Gradients":
        """The gradients of a batch from those of its parts."""
        if len(parts) == 1:
            return parts[0]
        tokens = sum(part.tokens for part in parts)
        shares = [part.tokens / tokens for part in parts]
        return cls(
            _mean([part.parameters for part in parts], shares),
            _mean([part.averaged for part in parts], shares),
            torch.stack([part.fired for part in parts]).sum(dim=0),
            tokens,
        )


def _mean(parts: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    return {
        name: sum((share * part[name] for share, part in zip(shares, parts, strict=True)), torch.zeros(()).to(first))
        for name, first in parts[0].items()
    }
