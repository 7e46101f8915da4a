"""A circuit's network on some prompts with its attention patterns and norm scales held, as edges are measured in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.batch import Batch
from gossamer.circuits.outputs import Outputs, last_stream
from gossamer.circuits.splice import Splice
from gossamer.display import plural, short_repr
from gossamer.model.editing import Edit
from gossamer.model.inputs import gathered
from gossamer.model.kinds import SITE_KINDS
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import frozen_weights

# What a site's nodes are taken to be (batch pos column), from what they are on what reaches the site.
Given = Callable[[Site, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class FrozenSplice:
    """Memory: the patterns of all layers after the first dictionary, prompts x heads x pos x pos each.

    Attributes:
        network: the circuit's network; its nodes are the circuit.
        batch: the prompts.
        scales: patterns and norm scales of the network itself, by site.
        values: how far each site's columns are from their ablation values in the network itself.
        layers: those whose attention lies after the first dictionary's place.
    """

    network: Splice
    batch: Batch
    scales: Mapping[Site, Tensor]
    values: Mapping[Site, Float[Tensor, "batch pos column"]]
    layers: tuple[int, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.network)
        yield f"{plural(len(self.layers), 'layer')} of attention"

    @classmethod
    def of(cls, network: Splice, rows: slice) -> "FrozenSplice":
        """Run the network once, all of its nodes unmasked."""
        model, batch, start = network.model, network.batch(rows), network.prompts.network.start
        kinds = [kind for kind in model.kinds if kind == "pattern" or SITE_KINDS[kind].norm_scale]
        sites = sorted(site for kind in kinds for site in model.sites(kind) if start < site < last_stream(model))
        layers = tuple(site.layer or 0 for site in model.sites("z") if site > start)
        bare = cls(network, batch, {}, {}, layers)
        mask, values = torch.ones(len(network.nodes), device=batch.stream.device), {}

        def given(site: Site, live: Tensor) -> Tensor:
            values[site] = live
            return live

        with torch.no_grad():
            found = bare._captured([*sites, last_stream(model)], mask, given)
        return cls(network, batch, {site: found[site] for site in sites}, values, layers)

    def run(
        self, mask: Float[Tensor, "node"], given: Given, edits: Mapping[Site, Edit] | None = None
    ) -> Float[Tensor, "batch d"]:
        """The last stream at the answer position, with patterns and norm scales held; differentiable.

        `edits` apply to what the model puts out at a site, before a dictionary there reads it.
        """
        model, last = self.network.model, last_stream(self.network.model)
        held = {site: partial(_instead, value) for site, value in self.scales.items()}
        with model.edit(held), model.edit(edits or {}):
            return gathered(self._captured([last], mask, given)[last], self.batch.answer_position)

    def as_edits(self) -> dict[Site, Edit]:
        """Under these a whole pass over the prompts is one of the circuit's own network, with nothing held."""
        network, batch = self.network, self.batch
        mask = torch.ones(len(network.nodes), device=network.model.device)

        def edit(site: Site, x: Tensor) -> Tensor:
            moved = network.moved(site, mask, batch, self.values[site], network.away(site, batch, x))
            return torch.where(batch.replaced.unsqueeze(-1), network.written(site, batch, x, moved).to(x), x)

        return {site: partial(edit, site) for site in network.dictionaries}

    def _captured(self, sites: list[Site], mask: Float[Tensor, "node"], given: Given) -> Mapping[Site, Tensor]:
        network, batch = self.network, self.batch

        def reconstruct(site: Site, x: Tensor) -> Tensor:
            live = network.away(site, batch, x)
            return network.written(site, batch, x, network.moved(site, mask, batch, given(site, live), live))

        return network.capture(batch, sites, reconstruct)

    def outputs(self, stream: Float[Tensor, "batch d"]) -> Outputs:
        """What the network says with this last stream, the final norm's scale a constant for gradients."""
        return Outputs(stream, self._unembed)

    def _unembed(self, x: Float[Tensor, "rows d"], ids: Tensor | None = None) -> Tensor:
        model = self.network.model
        with frozen_weights(model.hf):
            if not model.anatomy.has("final_norm_scale"):
                return model.unembed(x, ids)
            norm = model.anatomy.norm_of(model.anatomy.norm)
            hidden = norm.output(norm.normalized(x, norm.scale(x).detach()), model.dtype)
            return model.head(hidden) if ids is None else model.head.of(hidden, ids)


def directions(values: Sequence[Tensor], mask: Float[Tensor, "node"]) -> Iterator[list[Tensor | None]]:
    """How much each of some values moves with the mask of each node, node by node; None where it does not.

    A derivative in the direction of one node is the gradient, by a dummy cotangent, of the gradient by the mask.
    """
    moving = [one for one in values if one.requires_grad]
    dummies = [torch.zeros_like(one, requires_grad=True) for one in moving]
    (by_mask,) = torch.autograd.grad(moving, mask, dummies, create_graph=True)
    for node in range(len(mask)):
        found = iter(torch.autograd.grad(by_mask[node], dummies, retain_graph=True, allow_unused=True))
        yield [next(found) if one.requires_grad else None for one in values]


def _instead(frozen: Tensor, value: Tensor) -> Tensor:
    return frozen
