"""Sets of nodes: what a mask has entries for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.display import listed, plural, short_repr
from gossamer.features.feature import ERROR, Feature, Node
from gossamer.model.site import Site


@dataclass(frozen=True)
class SiteNodes:
    """The nodes of one site, ready for a masked product over its columns only.

    Attributes:
        columns: the latents that have a node here, ascending; the encoder and decoder run on these alone.
        where: positions of these nodes in the flat mask.
        role: role of each node.
        column: index into `columns` of each node; one past their end for an error node.
        n_roles: how many roles there are.
        has_error: whether an error node is among them, so that values of the nodes have one column more.
    """

    columns: Int[Tensor, "latent"]
    where: Int[Tensor, "node"]
    role: Int[Tensor, "node"]
    column: Int[Tensor, "node"]
    n_roles: int
    has_error: bool = False

    __repr__ = short_repr

    @property
    def width(self) -> int:
        """How many columns values of these nodes have."""
        return len(self.columns) + self.has_error

    def latents_only(self) -> "SiteNodes":
        """Without error nodes."""
        kept = self.column < len(self.columns)
        return SiteNodes(self.columns, self.where[kept], self.role[kept], self.column[kept], self.n_roles)

    def summed(
        self, values: Float[Tensor, "batch pos column"], roles: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "node"]:
        """Values of the columns, summed over each node's tokens in all prompts; `roles` below 0 are no role."""
        kept = roles >= 0
        sums = values.new_zeros(self.n_roles, values.shape[-1])
        return sums.index_add(0, roles[kept], values[kept])[self.role, self.column]


@dataclass(frozen=True)
class Nodes:
    """An ordered set of nodes, as tensors; a mask is a vector with one entry for each.

    Attributes:
        sites: the sites, in execution order.
        roles: names of the roles.
        site, role, latent: of each node, as indices into `sites`, `roles` and the dictionary; the latent of an error
            node is ERROR.
    """

    sites: tuple[Site, ...]
    roles: tuple[str, ...]
    site: Int[Tensor, "node"]
    role: Int[Tensor, "node"]
    latent: Int[Tensor, "node"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self), 'node')} at {listed(self.sites)}"
        yield f"roles {listed(self.roles)}"

    @classmethod
    def from_grids(
        cls, sites: Sequence[Site], roles: Sequence[str], grids: Sequence[Bool[Tensor, "role _"]]
    ) -> "Nodes":
        """All nodes whose entry in their site's (role, latent) grid is True."""
        found = [torch.nonzero(grid) for grid in grids]
        site = torch.cat([torch.full((len(rows),), index, device=rows.device) for index, rows in enumerate(found)])
        pairs = torch.cat(found)
        return cls(tuple(sites), tuple(roles), site, pairs[:, 0], pairs[:, 1])

    @classmethod
    def from_keys(
        cls, sites: Sequence[Site], roles: Sequence[str], keys: Sequence[Node], device: torch.device | str
    ) -> "Nodes":
        """Nodes by name, in the order given. Raises KeyError where a site or role is none of these."""
        places = {site: index for index, site in enumerate(sites)}
        names = {role: index for index, role in enumerate(roles)}
        triples = [(places[key.site], names[key.role or ""], key.latent) for key in keys]
        columns = torch.tensor(triples, dtype=torch.long, device=device).reshape(-1, 3)
        return cls(tuple(sites), tuple(roles), *columns.unbind(1))

    def __len__(self) -> int:
        return len(self.site)

    @property
    def is_error(self) -> Bool[Tensor, "node"]:
        """Which nodes are what a dictionary leaves out."""
        return self.latent == ERROR

    def with_errors(self, places: Bool[Tensor, "site role"]) -> "Nodes":
        """These nodes, then an error node at each (site, role) that is True."""
        site, role = torch.nonzero(places).unbind(1)
        added = (site, role, torch.full_like(site, ERROR))
        old = (self.site, self.role, self.latent)
        return Nodes(self.sites, self.roles, *(torch.cat(pair) for pair in zip(old, added, strict=True)))

    def select(self, chosen: Bool[Tensor, "node"] | Int[Tensor, "chosen"]) -> "Nodes":
        """The chosen nodes, by a boolean for each or by their positions."""
        return Nodes(self.sites, self.roles, self.site[chosen], self.role[chosen], self.latent[chosen])

    def none(self) -> "Nodes":
        """No node of the same sites and roles."""
        return self.select(torch.zeros(0, dtype=torch.long, device=self.site.device))

    def after(self, index: int) -> "tuple[Nodes, Int[Tensor, 'later']]":
        """The nodes of site number `index` and of all later ones, of those sites alone, and their positions here."""
        later = torch.nonzero(self.site >= index).squeeze(1)
        found = self.select(later)
        return Nodes(self.sites[index:], self.roles, found.site - index, found.role, found.latent), later

    def at(self, index: int) -> SiteNodes:
        """The nodes of site number `index` with the columns they need."""
        where = torch.nonzero(self.site == index).squeeze(1)
        latents, is_error = self.latent[where], self.is_error[where]
        columns = torch.unique(latents[~is_error])
        column = torch.searchsorted(columns, latents).masked_fill(is_error, len(columns))
        return SiteNodes(columns, where, self.role[where], column, len(self.roles), bool(is_error.any()))

    def keys(self) -> list[Node]:
        """Every node by name: equal nodes have equal keys in any set."""
        return [Node(Feature(self.sites[site], latent), self.roles[role]) for site, role, latent in self._triples()]

    def unique_latents(self) -> int:
        """Number of distinct features; errors are none."""
        return len({(site, latent) for site, _, latent in self._triples() if latent != ERROR})

    def find(self, keys: Sequence[Node]) -> Int[Tensor, "key"]:
        """Positions of `keys` in this set; keys that are not in it are left out."""
        sites = {site: index for index, site in enumerate(self.sites)}
        roles = {role: index for index, role in enumerate(self.roles)}
        positions = {triple: position for position, triple in enumerate(self._triples())}
        triples = ((sites.get(key.site, -1), roles.get(key.role or "", -1), key.latent) for key in keys)
        found = [positions[triple] for triple in triples if triple in positions]
        return torch.tensor(found, dtype=torch.long, device=self.site.device)

    def _triples(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.site.tolist(), self.role.tolist(), self.latent.tolist(), strict=True)
