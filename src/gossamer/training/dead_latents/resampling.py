r"""Resampling: dead latents start anew from inputs that are badly reconstructed (Bricken et al. 2023).

At a few steps, for every latent that has not fired for `dead_after` tokens, an input of a large sample is drawn with
probability proportional to the square of its loss, no input twice: two latents that start from one input get the same
gradients and never separate. The latent's decoder row becomes the direction of what the decoder should have written for
the input, its encoder column the direction of the input, at `encoder_scale` times the mean norm of the living latents'
columns; its bias and other vectors what they were at the start, its Adam moments 0. Where the sample has fewer inputs
than there are dead latents, the rest stay as they are until the next event. After each event the learning rate drops to
`dip` of itself and returns along a cosine (as in the Gated SAE paper, arXiv 2404.16014).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.dead_latents.strategy import DeadLatentStrategy


class InputDraw:
    """Inputs drawn without repetition from a stream, each with probability proportional to the square of its loss.

    Every input gets an exponential variate over its weight as key; those of the smallest keys are such a draw
    (Efraimidis & Spirakis 2006). Inputs that are equal count as one, inputs without loss are never drawn.
    Memory: `wanted` inputs and targets.

    Attributes:
        wanted: inputs to draw.
        sample: inputs that the stream should have.
        keys: of the inputs drawn so far, ascending; no more than wanted.
        x: what the encoder sees of them, (keys, d).
        y: what the decoder's rows should have made of them, b_dec subtracted, (keys, d_out).
    """

    def __init__(self, wanted: int, sample: int, generator: torch.Generator) -> None:
        self.wanted, self.sample, self.generator = wanted, sample, generator
        self.keys = torch.empty(0, dtype=torch.float64)
        self.x: Tensor | None = None
        self.y: Tensor | None = None

    def add(
        self, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d_out"], loss: Float[Tensor, "tokens"]
    ) -> None:
        """Draw from these inputs, of which `loss` is the squared error, and from all before them."""
        variates = torch.empty(len(loss), dtype=torch.float64).exponential_(generator=self.generator)
        keys = variates / loss.double().square().cpu()
        highest = self.keys[-1] if len(self.keys) == self.wanted else torch.inf
        some = (keys < highest).nonzero()[:, 0]
        place = some.to(x.device)
        keys, x, y = torch.cat([self.keys, keys[some]]), x[place], y[place]
        if self.x is not None and self.y is not None:
            x, y = torch.cat([self.x, x]), torch.cat([self.y, y])
        order = keys.argsort()
        order = order[first_of_each(x[order.to(x.device)]).cpu()][: self.wanted]
        place = order.to(x.device)
        self.keys, self.x, self.y = keys[order], x[place], y[place]


@dataclass(frozen=True)
class Resampling(DeadLatentStrategy):
    """Settings of resampling.

    Attributes:
        at: when, as shares of all steps.
        sample: inputs to draw from at each event; no more than an eighth of what the run learns from.
        encoder_scale: norm of a new encoder column, as a share of the mean of the living ones.
        dip: what the learning rate is multiplied by after an event.
        recovery: steps in which it returns.
    """

    name: str = field(default="resampling", init=False)
    at: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5)
    sample: int = 819_200
    encoder_scale: float = 0.2
    dip: float = 0.1
    recovery: int = 1000

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(all(0 < share < 1 for share in self.at), "shares above 0 and below 1 to resample at", self.at)
        require(self.sample >= 1, "a sample of at least 1 input", self.sample)
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
        drawn: InputDraw,
        dead: Bool[Tensor, "n"],
        norm: Float[Tensor, ""],
    ) -> Int[Tensor, "restarted"]:
        """Start dead latents anew from the inputs drawn, in place; returns them. The host waits for the device here.

        Args:
            p: the dictionary's parameters.
            vectors: initial values of those that have one number a latent.
            norm: that of a new decoder row.
        """
        latents = dead.nonzero()[: len(drawn.keys), 0]
        if drawn.x is None or drawn.y is None or len(latents) == 0:
            return latents
        living = p["W_enc"][:, ~dead]
        length = living.norm(dim=0).mean() if living.shape[1] else torch.ones(()).to(norm)
        p["W_dec"][latents] = unit(drawn.y[: len(latents)]) * norm
        p["W_enc"][:, latents] = unit(drawn.x[: len(latents)]).t() * self.encoder_scale * length
        for name, value in vectors.items():
            p[name][latents] = value
        return latents

    def _events(self, steps: int) -> set[int]:
        return {round(share * steps) for share in self.at}


def first_of_each(rows: Float[Tensor, "rows d"]) -> Bool[Tensor, "rows"]:
    """Which rows equal none before them."""
    found, group = torch.unique(rows, dim=0, return_inverse=True)
    places = torch.arange(len(rows), device=rows.device)
    firsts = places.new_full((len(found),), len(rows)).scatter_reduce_(0, group, places, "amin")
    return torch.zeros(len(rows), dtype=torch.bool, device=rows.device).index_fill_(0, firsts, True)


def unit(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    """Rows at norm 1; a row of zeros stays."""
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
