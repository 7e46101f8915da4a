"""Feature numbers of an attribution graph: one number for each latent of a layer, whatever its site."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.site import Site

# Readers are written in JavaScript, whose integers are exact up to here.
LARGEST = 2**53 - 1


@dataclass(frozen=True)
class Block:
    """The features `offset` to `offset + width` of a layer: all latents of one site."""

    layer: int
    offset: int
    width: int


@dataclass(frozen=True)
class Numbering:
    """Feature numbers of several sites: within a layer they follow one another, so no two latents share one."""

    blocks: Mapping[Site, Block]

    __repr__ = short_repr

    @classmethod
    def of(cls, sites: Sequence[Site], widths: Mapping[Site, int]) -> "Numbering":
        """Number the latents of `sites`, in their order, with `widths` latents each.

        Raises:
            UsageError: a site without a layer or a width.
        """
        blocks: dict[Site, Block] = {}
        used: dict[int, int] = {}
        for site in sites:
            layer = site.layer
            if layer is None or widths.get(site, 0) < 1:
                raise UsageError(
                    f"attribution graph: {site} needs a layer and the number of latents of its dictionary (widths)"
                )
            offset = used.get(layer, 0)
            blocks[site] = Block(layer, offset, widths[site])
            used[layer] = offset + widths[site]
        return cls(blocks)

    def number(self, feature: Feature) -> tuple[int, int]:
        """(layer, feature number) of a feature.

        Raises:
            UsageError: no such latent, or a number that readers cannot hold.
        """
        site, latent = feature
        block = self.blocks.get(site)
        if block is None or not 0 <= latent < block.width:
            width = "an unknown site" if block is None else f"{block.width} latents"
            raise UsageError(f"attribution graph: latent {latent} of {site} is outside its dictionary ({width})")
        if cantor(block.layer, block.offset + latent) > LARGEST:
            raise UsageError(f"attribution graph: the paired number of latent {latent} of {site} exceeds 2^53 - 1")
        return block.layer, block.offset + latent

    def feature(self, layer: int, number: int) -> Feature:
        """The feature of a number; the inverse of :meth:`number`."""
        for site, block in self.blocks.items():
            if block.layer == layer and 0 <= number - block.offset < block.width:
                return Feature(site, number - block.offset)
        raise UsageError(f"attribution graph: feature {number} of layer {layer} belongs to none of its sites")

    def to_json(self) -> dict[str, Any]:
        """As written to a graph's metadata."""
        return {str(site): asdict(block) for site, block in self.blocks.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Numbering":
        """From a graph's metadata. Raises :class:`TypeError` if something else is there than whole numbers."""
        if not all(type(number) is int for block in value.values() for number in dict(block).values()):
            raise TypeError("whole numbers expected")
        return cls({Site.parse(site): Block(**block) for site, block in value.items()})


def cantor(layer: int, feature: int) -> int:
    """Cantor's pairing, one number for each pair of non-negative integers: the `feature` of schema_version 1."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature
