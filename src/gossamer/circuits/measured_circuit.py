"""A hard circuit with its losses, on the prompts that it was fitted to and on those that choices are made on."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.display import short_repr

Measure = Callable[[Int[Tensor, "chosen"]], tuple[float, Float[Tensor, "rows"]]]
# Two losses that differ by less than this share are the same loss, rounded differently.
EQUAL = 1e-6
# A circuit whose loss is lower by this than another's, in units of faithfulness, is clearly the better one.
CLEARLY = 0.05
# A circuit whose mean is so near the full model's, as a share of it, is left as it is: what remains is single prompts.
_MET = 0.02


@dataclass(frozen=True, eq=False)
class MeasuredCircuit:
    """A hard circuit with its losses, each measured when it is asked for.

    The prompts that choices are made on are the fewer ones and are asked first: a trial that is no better on them costs
    no pass of the fitted ones.

    Attributes:
        circuit: positions in the candidates.
        fitted: gives the mean loss on the fitted prompts, and the excess over the full model on each of them.
        validation: the same on the prompts that choices are made on; None where these are the fitted ones.
    """

    circuit: Int[Tensor, "chosen"]
    fitted: Measure
    validation: Measure | None

    __repr__ = short_repr

    @cached_property
    def _fitted(self) -> tuple[float, Float[Tensor, "fitted"]]:
        return self.fitted(self.circuit)

    @cached_property
    def _checked(self) -> tuple[float, Float[Tensor, "rows"]]:
        return self._fitted if self.validation is None else self.validation(self.circuit)

    @property
    def loss(self) -> float:
        """The loss on the fitted prompts."""
        return self._fitted[0]

    @property
    def excess(self) -> Float[Tensor, "fitted"]:
        """The excess over the full model on each fitted prompt."""
        return self._fitted[1]

    @property
    def check(self) -> float:
        """The loss on the prompts that choices are made on."""
        return self._checked[0]

    @property
    def mean(self) -> float:
        """The mean loss over all of these prompts, fitted and others."""
        n, others = len(self.excess), 0 if self.validation is None else len(self.missed)
        return (n * self.loss + others * self.check) / (n + others)

    @property
    def missed(self) -> Float[Tensor, "rows"]:
        """The excess over the full model on each of the prompts that choices are made on."""
        return self._checked[1]

    def better(self, other: "MeasuredCircuit") -> bool:
        """Whether both losses are lower than the other's: on prompts that were fitted, and on others."""
        return lower(self.check, other.check) and lower(self.loss, other.loss)

    def clearly_better(self, other: "MeasuredCircuit") -> bool:
        """Whether it is better than the other one, and by much over all prompts."""
        return self.better(other) and self.mean < other.mean - CLEARLY

    @property
    def meets(self) -> bool:
        """Whether its mean is the full model's, or nearly."""
        return bool(self.missed.mean().abs() <= _MET)

    @property
    def overshoots(self) -> bool:
        """Whether its mean is above the full model's, by more than prompts alone explain (two standard errors).

        Of all prompts: those that choices are made on have few words, which differ by more than their prompts do.
        """
        return self.mean_excess > max(_MET, 2 * self.error)

    @property
    def mean_excess(self) -> float:
        """The mean excess over the full model, over all of these prompts, fitted and others."""
        return self._everywhere.mean().item()

    @property
    def error(self) -> float:
        """The standard error of that mean."""
        return standard_error(self._everywhere)

    @property
    def _everywhere(self) -> Float[Tensor, "rows"]:
        return self.excess if self.validation is None else torch.cat([self.excess, self.missed])


def lower(one: float, other: float) -> bool:
    """Whether a loss is lower than another by more than rounding."""
    return one < other - EQUAL * abs(other)


def standard_error(values: Float[Tensor, "rows"]) -> float:
    """The standard error of the mean of so many values."""
    return values.std().item() / math.sqrt(len(values))
