r"""Resampling: dead latents start anew from inputs that are badly reconstructed (Bricken et al. 2023).

At a few steps, for every latent that has not fired for `dead_after` tokens, an input is drawn with probability
proportional to the square of its loss. The latent's decoder row becomes the direction of what the decoder should have
written for it, its encoder column the direction of the input, at `encoder_scale` times the mean norm of the living
latents' columns; its bias and other vectors what they were at the start, its Adam moments 0. After each event the
learning rate drops to `dip` of itself and returns along a cosine (as in the Gated SAE paper, arXiv 2404.16014).

The published procedure draws from a large sample of its own; here the batch of the step is the sample.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.gradients import Candidates
from gossamer.training.remedies.remedy import Remedy


@dataclass(frozen=True)
class Resampling(Remedy):
    """Settings of resampling.

    Attributes:
        at: when, as shares of all steps.
        encoder_scale: norm of a new encoder column, as a share of the mean of the living ones.
        dip: what the learning rate is multiplied by after an event.
        recovery: steps in which it returns.
    """

    name: str = field(default="resampling", init=False)
    at: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5)
    encoder_scale: float = 0.2
    dip: float = 0.1
    recovery: int = 1000

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(all(0 < share < 1 for share in self.at), "shares above 0 and below 1 to resample at", self.at)
        require(self.encoder_scale > 0, "a positive encoder_scale", self.encoder_scale)
        require(0 < self.dip <= 1, "dip above 0, at most 1", self.dip)
        require(self.recovery >= 1, "recovery of at least 1 step", self.recovery)

    def due(self, step: int, steps: int) -> bool:
        """Whether step number `step` of `steps` ends with an event."""
        return step in self._events(steps)

    def rate(self, step: int, steps: int) -> float:
        """What the learning rate of a step is multiplied by."""
        since = [step - event - 1 for event in self._events(steps) if event < step]
        if not since or min(since) >= self.recovery:
            return 1.0
        return self.dip + (1 - self.dip) * (1 - math.cos(math.pi * min(since) / self.recovery)) / 2

    def restart(
        self,
        p: Mapping[str, Tensor],
        vectors: Mapping[str, float],
        candidates: Candidates,
        dead: Bool[Tensor, "n"],
        norm: Float[Tensor, ""],
        generator: torch.Generator,
    ) -> Int[Tensor, "drawn"]:
        """Start the dead latents anew, in place; returns them. The host waits for the device here.

        Args:
            p: the dictionary's parameters.
            vectors: initial values of those that have one number a latent.
            norm: that of a new decoder row.
        """
        latents, chosen = draw(candidates, dead, generator)
        living = p["W_enc"][:, ~dead]
        length = living.norm(dim=0).mean() if living.shape[1] else torch.ones(()).to(norm)
        p["W_dec"][latents] = unit(candidates.y[chosen]) * norm
        p["W_enc"][:, latents] = unit(candidates.x[chosen]).t() * self.encoder_scale * length
        for name, value in vectors.items():
            p[name][latents] = value
        return latents

    def _events(self, steps: int) -> set[int]:
        return {round(share * steps) for share in self.at}


def draw(
    candidates: Candidates, dead: Bool[Tensor, "n"], generator: torch.Generator
) -> tuple[Int[Tensor, "drawn"], Int[Tensor, "drawn"]]:
    """The dead latents, and which candidate each gets: no candidate twice as long as there are enough.

    Candidates without loss are never drawn; if there are none with it, nothing is.
    """
    weights = candidates.loss.double().square().cpu()
    latents = dead.nonzero()[:, 0]
    useful = int((weights > 0).sum())
    if len(latents) == 0 or useful == 0:
        return latents[:0], latents[:0]
    # Scaled, so that squares of small losses do not vanish in the sum.
    chosen = torch.multinomial(weights / weights.max(), len(latents), len(latents) > useful, generator=generator)
    return latents, chosen.to(latents.device)


def unit(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    """Rows at norm 1; a row of zeros stays."""
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
