"""The latents that have most to do with one: by their decoder rows, or by what some other measure says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.features.feature import Feature
from gossamer.features.lens import writes_to_stream
from gossamer.model.site import Site, SiteMapping, by_site

DECODER_COSINE = "decoder_cosine"
# Cosines that stand in memory at a time.
_BLOCK_VALUES = 2**24


@dataclass(frozen=True)
class Neighbour:
    """Another latent, and how much it has to do with one.

    Attributes:
        feature: the other latent.
        measure: decoder_cosine, or a measure of relations such as pearson.
        value: of that measure.
    """

    feature: Feature
    measure: str
    value: float

    __repr__ = short_repr


@torch.no_grad()
def decoder_neighbours(
    dictionaries: SiteMapping[Dictionary], features: Iterable[Feature], *, count: int = 8
) -> dict[Feature, tuple[Neighbour, ...]]:
    """The latents whose decoder rows have the largest cosine with that of each feature, itself left out.

    They are of all dictionaries given that write into the same space: the residual stream, or else the same site (the
    heads' values of two layers have nothing to do with each other). Cosines are in float32. Memory: 2**24 cosines.

    Args:
        dictionaries: those of the features, and all whose latents may be neighbours.
        features: latents of the dictionaries.
        count: neighbours of each.
    """
    dictionaries = by_site(dictionaries)
    wanted: dict[Site, dict[int, None]] = {}
    for site, latent in features:
        wanted.setdefault(site, {})[latent] = None
    spaces: dict[Site | None, list[Site]] = {}
    for site in sorted(dictionaries):
        spaces.setdefault(_space(dictionaries[site], site), []).append(site)
    found: dict[Feature, tuple[Neighbour, ...]] = {}
    for sites in spaces.values():
        decoders = {site: _Decoder.of(dictionaries[site]) for site in sites}
        for site in sites:
            if site in wanted:
                found |= _nearest(decoders, site, list(wanted[site]), count)
    return found


def _space(dictionary: Dictionary, site: Site) -> Site | None:
    """What a dictionary's rows are directions of; None for the residual stream."""
    written = dictionary.site_out or site
    return None if writes_to_stream(written) else written


class _Decoder(NamedTuple):
    rows: Float[Tensor, "latent d"]
    lengths: Float[Tensor, "latent"]

    @classmethod
    def of(cls, dictionary: Dictionary) -> "_Decoder":
        rows = dictionary.W_dec.detach()
        return cls(rows, torch.linalg.vector_norm(rows.float(), dim=1).clamp(min=1e-30))

    def cosines(self, units: Float[Tensor, "part d"]) -> Float[Tensor, "part latent"]:
        return (units.to(self.rows.device) @ self.rows.float().T) / self.lengths


def _nearest(
    decoders: Mapping[Site, _Decoder], site: Site, latents: list[int], count: int
) -> dict[Feature, tuple[Neighbour, ...]]:
    own, names = decoders[site], list(decoders)
    found: dict[Feature, tuple[Neighbour, ...]] = {}
    step = max(1, _BLOCK_VALUES // max(len(one.rows) for one in decoders.values()))
    for part in torch.split(torch.tensor(latents, device=own.rows.device), step):
        units = own.rows[part].float() / own.lengths[part, None]
        values, numbers, places = [], [], []
        for place, (other, decoder) in enumerate(decoders.items()):
            cosines = decoder.cosines(units)
            if other == site:
                cosines[torch.arange(len(part)), part] = -torch.inf
            best = cosines.topk(min(count, cosines.shape[1]), dim=1)
            values.append(best.values.cpu())
            numbers.append(best.indices.cpu())
            places.append(torch.full_like(numbers[-1], place))
        ranked, order = torch.cat(values, dim=1).sort(dim=1, descending=True, stable=True)
        of_site, of_latent = (torch.cat(parts, dim=1).gather(1, order) for parts in (places, numbers))
        for row, latent in enumerate(part.tolist()):
            several = zip(ranked[row, :count].tolist(), of_site[row].tolist(), of_latent[row].tolist(), strict=False)
            found[Feature(site, latent)] = tuple(
                Neighbour(Feature(names[place], other), DECODER_COSINE, cosine)
                for cosine, place, other in several
                if cosine > -torch.inf
            )
    return found
