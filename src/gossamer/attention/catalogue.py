"""Numbers for whatever can contribute on a prompt, so that terms of thousands of functions are sorted as integers."""

from collections.abc import Sequence

import numpy as np

from gossamer.attention.attribution_data import GROUPS, KINDS, Items
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.source import Source
from gossamer.display import short_repr
from gossamer.model.site import Site
from gossamer.results.column import Column

_GROUP_OF = {
    "token": "embeddings",
    "position": "embeddings",
    "attention": "attention",
    "mlp": "MLP",
    "skip": "skip",
    "error": "errors",
    "bias": "biases",
}


def group_of(kind: str, site: Site | None) -> int:
    """Place in `GROUPS`; of latents, by what their dictionary reads."""
    if kind in _GROUP_OF:
        return GROUPS.index(_GROUP_OF[kind])
    if site is None or site.facts.stream:
        return GROUPS.index("residual latents")
    return GROUPS.index("attention latents" if site.kind in ("z", "attn_out", "attn_in") else "MLP latents")


class Catalogue:
    """Keys of sources on one prompt: a number for each kind, site, latent and position."""

    def __init__(self, frozen: FrozenPass) -> None:
        written = {site for kind in ("attn_out", "mlp_out", "q", "k") for site in frozen.model.sites(kind)}
        known = {site for codes in frozen.codes.values() for site in (codes.reads, codes.writes)}
        self.sites = sorted({Site("embed")} | written | known)
        self._places = {site: place for place, site in enumerate(self.sites)}
        widest = max((codes.dictionary.n_latents for codes in frozen.codes.values()), default=0)
        self._shape = (len(KINDS), len(self.sites) + 1, widest + 1, frozen.tokens.ids.shape[1] + 1)
        self._frozen = frozen

    __repr__ = short_repr

    def _facts(self) -> Sequence[str]:
        return [f"{len(self.sites)} sites"]

    def keys(self, kind: str, site: Site | None, latents: np.ndarray | int, positions: np.ndarray | int) -> np.ndarray:
        """Of one kind and site; a latent of -1 is none."""
        place = -1 if site is None else self._places[site]
        parts = np.broadcast_arrays(KINDS.index(kind), place + 1, np.add(latents, 1), np.add(positions, 1))
        return np.asarray(np.ravel_multi_index(tuple(parts), self._shape))

    def key(self, source: Source) -> int:
        """Of one source; the root stands at no token."""
        latent = -1 if source.latent is None else source.latent
        place = source.place if isinstance(source.place, int) else -1
        return int(self.keys(source.kind, source.site, latent, place))

    def items(self, keys: np.ndarray) -> Items:
        """What the keys stand for."""
        kinds, sites, latents, positions = np.unravel_index(keys, self._shape)
        sites, latents, positions = sites - 1, latents - 1, positions - 1
        names = {(kind, place) for kind, place in zip(kinds.tolist(), sites.tolist(), strict=True)}
        group = {
            (kind, place): group_of(KINDS[kind], self.sites[place] if place >= 0 else None) for kind, place in names
        }
        groups = [group[pair] for pair in zip(kinds.tolist(), sites.tolist(), strict=True)]
        activations = np.zeros(len(keys))
        for site, codes in self._frozen.codes.items():
            here = (sites == self._places[site]) & (latents >= 0)
            active = {
                (position, latent): value
                for position in np.unique(positions[here]).tolist()
                for latent, value in codes.active(0, position).items()
            }
            pairs = zip(positions[here].tolist(), latents[here].tolist(), strict=True)
            activations[here] = [active.get(pair, 0.0) for pair in pairs]
        return Items(
            tuple(map(str, self.sites)),
            Column.of(kinds, "uint8"),
            Column.of(groups, "uint8"),
            Column.of(sites, "int32"),
            Column.of(latents, "int32"),
            Column.of(positions, "int32"),
            Column.of(activations, "float32"),
        )
