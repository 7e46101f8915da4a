"""A circuit of which only some edges are kept, run exactly.

Along a kept edge u -> v, v sees u as u is in this network; along a removed edge it sees u's ablation value. So every
node has a network of its own: the circuit's, in which each earlier node is given, at its value or at its ablation
value, as the edges into that one node say; what it reads there is its value. The metric is read in a last one. Nothing
is linearised: attention patterns, norms and MLPs are those of each of these networks. With every edge kept each of them
is the circuit's own network, and with none kept the last one is that of the empty circuit, to the last digits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.circuits.batch import Batch
from gossamer.circuits.outputs import Outputs, last_stream
from gossamer.circuits.splice import Splice
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.inputs import gathered
from gossamer.model.site import Site

# Prompts of one pass, at most: one prompt in as many networks as there are nodes with different edges.
_ROWS = 256


@dataclass(frozen=True, eq=False)
class EdgeNetwork:
    """Called with rows, it gives their outputs, as every network does.

    Cost: for each node with edges of its own one pass through the layers since the last dictionary on the stream before
    it (since the first dictionary where errors are kept, or dictionaries normalise), and the same for the metric. Nodes
    that see the same nodes share a pass. Memory: 256 prompts in the layers of one pass.

    Attributes:
        network: the circuit's network; its nodes are the circuit.
        kept: row v, column u: whether the edge from u to v is kept; the last row is the metric.

    Raises:
        UsageError: not one row for each node and the metric, and one column for each node, or non-nodes that are kept.
    """

    network: Splice
    kept: Bool[Tensor, "target source"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.network)
        yield plural(int(self.kept.sum()), "edge")

    def __post_init__(self) -> None:
        n = len(self.network.nodes)
        if self.kept.shape != (n + 1, n):
            raise UsageError(
                f"kept edges: {n + 1} rows (nodes and metric) of {n} columns expected, found {tuple(self.kept.shape)}"
            )
        if self.network.non_nodes != "ablated":
            raise UsageError("kept edges: the circuit's own network expected, in which all other latents are ablated")

    def __call__(self, rows: slice) -> Outputs:
        """What is said at the answer position (no gradients)."""
        network, batch = self.network, self.network.batch(rows)
        values: dict[Site, Tensor] = {}
        with torch.no_grad():
            # What passes dictionaries by comes before everything that they replace, and is the same in every network.
            passing = network.streams(torch.ones(len(network.nodes), device=network.model.device), rows)
            for index, site in enumerate(network.nodes.sites):
                here = network.nodes.at(index)
                values[site] = batch.stream.new_zeros(*batch.roles.shape, here.width)
                for targets, x in self._read(site, index, self.kept[here.where], batch, passing, values):
                    away = network.away(site, batch, x)
                    for role, column in zip(here.role[targets].tolist(), here.column[targets].tolist(), strict=True):
                        # A column is a node at each of several roles, with edges of their own.
                        at = batch.roles == role
                        values[site][..., column] = torch.where(at, away[..., column], values[site][..., column])
            last, every = last_stream(network.model), len(network.nodes.sites)
            ((_, stream),) = self._read(last, every, self.kept[-1:], batch, passing, values)
        return Outputs(gathered(stream, batch.answer_position), network.unembed)

    def _read(
        self,
        site: Site,
        count: int,
        kept: Bool[Tensor, "target source"],
        batch: Batch,
        passing: Mapping[Site, Tensor],
        values: Mapping[Site, Tensor],
    ) -> Iterator[tuple[Int[Tensor, "some"], Float[Tensor, "batch pos d"]]]:
        """What stands at `site` for targets that see the same nodes of the first `count` sites, with these targets."""
        sites, nodes = self.network.nodes.sites, self.network.nodes
        start = max((index for index in range(count) if self._blocks(index)), default=None)
        within = (nodes.site >= (start or 0)) & (nodes.site < count)
        distinct, which = torch.unique(kept & within, dim=0, return_inverse=True)
        numbers = iter(range(len(distinct)))
        for block in torch.split(distinct, max(1, _ROWS // len(batch.roles))):
            stacked = _repeated(batch, len(block))

            def reconstruct(at: Site, x: Tensor, block: Tensor = block, stacked: Batch = stacked) -> Tensor:
                if sites.index(at) >= count:
                    return x
                moved = [self.network.moved(at, row.to(x), batch, values[at], values[at]) for row in block]
                return self.network.written(at, stacked, x, torch.cat(moved))

            run, prefix = self.network.prompts.network, stacked.stream
            if start is not None:
                run = run.with_sites(sites[start:])
                prefix = passing[sites[start]].repeat(len(block), 1, 1)
            found = run.capture(stacked.tokens, stacked.replaced, [site], prefix=prefix, reconstruct=reconstruct)[site]
            for x in torch.split(found, len(batch.roles)):
                yield torch.nonzero(which == next(numbers)).squeeze(1), x

    def _blocks(self, index: int) -> bool:
        """Whether nothing gets past the dictionary at site number `index` but its nodes."""
        site = self.network.nodes.sites[index]
        whole = site.facts.resumable and self.network.ablation.errors != "keep"
        return whole and self._leading and self.network.dictionaries[site].config.normalisation == "none"

    @cached_property
    def _leading(self) -> bool:
        """Whether tokens without a role come before all others of their prompts, so that no node can reach them."""
        clean = self.network.examples.clean
        replaced = clean.roles >= 0
        return not bool((clean.tokens.mask & ~replaced & (replaced.cumsum(dim=1) > 0)).any())


def _repeated(batch: Batch, times: int) -> Batch:
    """The prompts of a batch, all of them one time after another."""
    rows = torch.arange(len(batch.roles), device=batch.roles.device).repeat(times)
    return batch.select(rows)
