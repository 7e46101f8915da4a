"""Keys and values of positions that a model has read, so that a pass over later ones need not read them again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from gossamer.display import plural, short_repr


@dataclass(frozen=True, eq=False)
class Past:
    """Grows with every pass that it is given to.

    Memory: batch x positions x 2 x heads of keys x width of a head, for each layer that ran.

    Attributes:
        cache: what the transformers model itself is given.
    """

    cache: DynamicCache = field(default_factory=DynamicCache)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.length, "position")

    @property
    def length(self) -> int:
        """Positions whose keys and values it holds, in every layer."""
        return int(self.cache.get_seq_length())

    @property
    def ran(self) -> int:
        """Positions whose keys and values it holds, in the layers that ran; 0 of a model that keeps none."""
        return max((int(layer.get_seq_length()) for layer in self.cache.layers), default=0)

    def first(self, rows: Int[Tensor, "rows"], count: int) -> "Past":
        """The first `count` positions of some of the rows, for passes that begin in a layer that ran, or later.

        The layers that did not run get zeros, which no such pass reads.
        """
        cut = DynamicCache()
        filled = [layer for layer in self.cache.layers if layer.get_seq_length()]
        for index, layer in enumerate(self.cache.layers):
            if layer.get_seq_length():
                cut.update(layer.keys[rows, :, :count], layer.values[rows, :, :count], index)
            else:
                nothing = torch.zeros_like(filled[0].keys[:1, :1, :count]).expand(len(rows), 1, count, -1)
                cut.update(nothing, nothing, index)
        return Past(cut)

    @classmethod
    def joined(cls, parts: "Sequence[Past]") -> "Past":
        """Rows of several, one after the other; those of fewer positions are padded on the right with zeros."""
        whole = DynamicCache()
        width = max(part.ran for part in parts)
        for index in range(len(parts[0].cache.layers)):
            layers = [part.cache.layers[index] for part in parts]
            if all(layer.get_seq_length() for layer in layers):
                keys, values = (
                    torch.cat([_padded(getattr(layer, name), width) for layer in layers]) for name in ("keys", "values")
                )
                whole.update(keys, values, index)
        return cls(whole)


def _padded(x: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, width - x.shape[2]))
