"""The units in which a dictionary learns: activations shifted by a mean and multiplied by a matrix, both fixed."""

import functools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.finite import require_finite

SCALINGS = ("unit_variance", "sqrt_d", "none")


@dataclass(frozen=True)
class Units:
    """y = (activation - mean) @ into, and back.

    Attributes:
        mean: what counts as zero.
        into: the root of the metric of errors, times one scale.
    """

    mean: Float[Tensor, "d"]
    into: Float[Tensor, "d d"]

    @classmethod
    def of(
        cls,
        first: Float[Tensor, "tokens d"],
        scaling: str,
        root: Float[Tensor, "d d"] | None,
        what: str,
    ) -> "Units":
        """Units fitted to some activations; `what` names them in errors.

        Args:
            scaling: "unit_variance": mean subtracted, variance 1 per dimension on average; "sqrt_d": nothing
                subtracted, E||y|| = sqrt(d); "none": nothing subtracted, nothing scaled.
            root: the root of the metric of errors; None counts them evenly.

        Raises:
            UsageError: the activations do not vary, or there are none, or their variance overflows float32.
            NotFiniteError: one of them is not finite.
        """
        if len(first) == 0:
            raise UsageError(f"{what}: expected some to begin with, found none; give more text")
        require_finite(first, what)
        mean = first.mean(dim=0)
        root = torch.eye(len(mean)).to(mean) if root is None else root.to(mean)
        spread = ((first - mean) @ root).square().mean().sqrt()
        # Not by the spread: the mean of equal numbers is rounded, and dividing by that would train on rounding errors.
        if bool((first == first[0]).all()):
            raise UsageError(f"{what} are all equal; give another site or more text")
        if not 0 < spread < torch.inf:
            raise UsageError(f"{what}: expected a deviation that float32 holds, found {spread:.3g}; scale them")
        if scaling == "unit_variance":
            return cls(mean, root / spread)
        scale = 1.0 if scaling == "none" else len(mean) ** 0.5 / (first @ root).norm(dim=1).mean()
        return cls(torch.zeros_like(mean), root * scale)

    @functools.cached_property
    def _even(self) -> bool:
        """Whether `into` only scales; on other devices than the CPU that is not asked, for they would be waited for."""
        if self.into.device.type != "cpu":
            return False
        return torch.equal(self.into, self.into[0, 0] * torch.eye(len(self.mean)).to(self.into))

    def inward(self, activations: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens d"]:
        """Raw activations in these units."""
        if self._even:
            return (activations - self.mean) * self.into[0, 0]
        with _whole(activations.device.type):
            return (activations - self.mean) @ self.into

    def outward(self, values: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens d"]:
        """Back to raw activations."""
        return self.directions(values) + self.mean

    def directions(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """Directions and differences, to which no mean belongs, in the model's units."""
        return torch.linalg.solve(self.into, rows, left=False)


def _whole(device_type: str) -> AbstractContextManager[object]:
    """Where a dictionary's own products are in bfloat16, what errors are measured against is not."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def metric_root(metric: Float[Tensor, "d d"], share: float) -> Float[Tensor, "d d"]:
    """The root of (1 - share) * identity + share * metric."""
    mixed = (1 - share) * torch.eye(len(metric)).to(metric) + share * metric
    values, vectors = torch.linalg.eigh(mixed)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.t()
