"""What circuits of a search do on prompts that it did not see."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr


@dataclass(frozen=True, eq=False)
class Unseen:
    """The excess over the full model on each of some prompts, of circuits that were not fitted to them.

    A circuit that was fitted to these prompts too does more on them, and on others about as much as these do.

    Attributes:
        sizes: of the circuits, rising.
        excess: of each size.
    """

    sizes: tuple[int, ...]
    excess: Float[Tensor, "size prompt"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.sizes[0]} to {self.sizes[-1]} nodes, {self.excess.shape[1]} prompts"

    @classmethod
    def of(cls, found: Sequence[tuple[int, Float[Tensor, "prompt"]]]) -> "Unseen":
        """Of circuits' sizes and their excess on each prompt."""
        found = sorted(found, key=lambda one: one[0])
        return cls(tuple(size for size, _ in found), torch.stack([excess for _, excess in found]))

    def at(self, size: int) -> Float[Tensor, "prompt"]:
        """The excess at a size: linear in its logarithm between those that are known, of the nearest beyond them."""
        above = next((place for place, known in enumerate(self.sizes) if known >= size), len(self.sizes) - 1)
        below = max(above - 1, 0) if self.sizes[above] > size else above
        if above == below:
            return self.excess[above]
        first, last = math.log(self.sizes[below]), math.log(self.sizes[above])
        return torch.lerp(self.excess[below], self.excess[above], (math.log(size) - first) / (last - first))
