"""Edges of a circuit: the signed direct effect of each node on each later node and on the task's metric.

Everything is measured inside the circuit's own network: its nodes unmasked, every other latent at its ablation value.
Attention patterns and norm scales are held at what they are there, on each prompt.

    weight(u -> v) = mean over prompts of  d v / d M_u,    v summed over the tokens of its role,

where M_u is the mask of u: d M_u = 1 moves u at all tokens of its role from its ablation value to its value. All other
nodes are held. So a weight is what u adds to v by all ways that pass through no other node, to first order (only MLPs
and the dictionaries' own thresholds are not linear here), in the units of v or of the metric: positive, u raises v.
A v that is inactive in the circuit's network has no incoming edges. In that network a dictionary on the stream lets
nothing past but its nodes, unless errors are kept: between residual sites edges then join neighbours. With
non_nodes="kept" latents that are no node, and errors, carry effects too, and edges pass over sites.

The ways from u to v are told apart by the last attention head on them: it brought the effect to the token where v reads
it. What passes no head stays at one token, and is the direct part. Heads and the direct part sum to the weight.

    influence(u -> v) = mean over prompts, sum over tokens t of  (d metric / d v_t) (d v_t / d M_u)

is what the edge carries on to the metric, through all that follows v. It is in the units of the metric for every
edge, so that all edges of a circuit can be ranked; of one node's outgoing edges it sums to the node's total effect.

Source: the linear edges of sparse feature circuits (Marks et al. 2024), with direct effects in a network of frozen
attention and norms as in attribution graphs (Ameisen et al. 2025); influence is edge attribution patching (Syed et al.
2023) between latents; and the step from ablation value to value that node scores use here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.edge import Edge, HeadShare
from gossamer.circuits.frozen_splice import FrozenSplice, directions
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import NonNodes, Splice
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Node
from gossamer.finite import require_finite
from gossamer.model.site import Site
from gossamer.progress import begin

# Numbers of head outputs kept at once for all nodes of a batch.
_VALUES = 2**28


@dataclass(frozen=True, eq=False)
class DirectEffects:
    """All weights: row v, column u holds weight(u -> v); the last row is the task's metric. Float64.

    Attributes:
        circuit: the nodes.
        metric: name of the task's metric.
        weights: see the module.
        influence: the same edges in the units of the metric.
        direct: the part of the weights that passes no head.
        layers: the layers whose heads lie between the first dictionary and the end.
        heads: the parts of the weights by the last head on the way; float64 in a model of that type, else float32.
        prompts: how many prompts these are means over.
    """

    circuit: Nodes
    metric: str
    weights: Float[Tensor, "target source"]
    influence: Float[Tensor, "target source"]
    direct: Float[Tensor, "target source"]
    layers: tuple[int, ...]
    heads: Float[Tensor, "layer head target source"]
    prompts: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.circuit)
        yield plural(int((self.weights != 0).sum()), "edge")

    def edges(self, *, keep: int | float = 1.0, every_to_metric: bool = False) -> tuple[Edge, ...]:
        """Edges between the nodes and from them to the metric, strongest first for each target.

        Args:
            keep: how many of the edges into each target to keep, strongest |weight| first: a number of edges (int), or
                a share of its edges (float, at least one edge). Edges into different targets have different units, so
                they are not ranked against each other. Edges of weight 0 are never kept.
            every_to_metric: whether to keep all edges into the metric, one a node at most, so that of every node that
                adds to it directly the file says how much.

        Raises:
            UsageError: a share outside (0, 1], or a negative number.
        """
        if keep < 0 or (isinstance(keep, float) and not 0 < keep <= 1):
            raise UsageError(f"keep: a share in (0, 1] or a number of edges expected, found {keep!r}")
        keys = self.circuit.keys()
        targets: list[Node | str] = [*keys, self.metric]
        found: list[Edge] = []
        for row, (target, weights) in enumerate(zip(targets, self.weights, strict=True)):
            present = int((weights != 0).sum())
            count = min(present, keep if isinstance(keep, int) else max(1, round(keep * present)))
            if every_to_metric and isinstance(target, str):
                count = present
            order = torch.argsort(weights.abs(), descending=True, stable=True)[:count]
            found += [self._edge(row, source, keys[source], target) for source in order.tolist()]
        return tuple(found)

    def _edge(self, row: int, column: int, source: Node, target: Node | str) -> Edge:
        carried = [
            HeadShare(layer, head, value)
            for layer, values in zip(self.layers, self.heads[:, :, row, column].tolist(), strict=True)
            for head, value in enumerate(values)
            if value != 0
        ]
        carried.sort(key=lambda one: -abs(one.weight))
        weight, influence, direct = (float(table[row, column]) for table in (self.weights, self.influence, self.direct))
        return Edge(source, target, weight, influence, direct, tuple(carried))


def circuit_edges(
    splice: Splice, circuit: Nodes, *, keep: int | float = 1.0, non_nodes: NonNodes = "ablated"
) -> tuple[Edge, ...]:
    """:meth:`DirectEffects.edges` of a circuit."""
    return direct_effects(splice, circuit, non_nodes=non_nodes).edges(keep=keep)


def direct_effects(splice: Splice, circuit: Nodes, *, non_nodes: NonNodes = "ablated") -> DirectEffects:
    """Weights of all edges, with the shares of heads and the influence on the metric.

    Cost: for each batch of prompts five forward passes, and for each node and the metric three backward passes, each no
    longer than the layers between the first dictionary and the end. Memory: nodes^2 numbers for each head of these
    layers, the patterns of one batch, and for each node all heads' outputs; batches are made so that these stay below
    2^28 numbers (1 GiB in float32).

    Args:
        splice: model, dictionaries, prompts and ablation; its own nodes do not matter.
        circuit: the circuit's nodes.
        non_nodes: the network that effects are measured in: the circuit's own ("ablated"), or the model with all
            latents and with errors as the splice has them ("kept").
    """
    network = splice.with_nodes(circuit, non_nodes=non_nodes)
    n, heads = len(circuit), splice.model.n_heads
    layers = tuple(site.layer or 0 for site in splice.model.sites("z") if site > splice.prompts.network.start)
    weights, influence, direct = (torch.zeros(n + 1, n, dtype=torch.float64) for _ in range(3))
    wide = torch.promote_types(splice.model.dtype, torch.float32)
    by_head = torch.zeros(len(layers), heads, n + 1, n, dtype=wide)
    count = len(splice.examples)
    advance = begin("edges", count)
    each = 2 * (n + 1) * len(layers) * heads * splice.model.d_head * splice.examples.clean.tokens.ids.shape[1]

    def add(rows: slice) -> None:
        found = _of_batch(network, rows)
        for total, part in zip((weights, influence, direct, by_head), found, strict=True):
            total.add_(part.cpu())
        advance(rows.stop - rows.start, "")

    if n:
        in_batches(count, max(1, min(splice.batch_size, _VALUES // max(each, 1))), add)
    for total in (weights, influence, direct, by_head):
        require_finite(total.div_(count), "edge weights")
    return DirectEffects(circuit, splice.examples.metric.name, weights, influence, direct, layers, by_head, count)


def _of_batch(network: Splice, rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, influence, direct parts and those of heads, summed over the prompts of one batch."""
    frozen = FrozenSplice.of(network, rows)
    gains, pull = _gains(frozen, rows)
    weights, influence, moved = _forward(frozen, gains, pull)
    direct, read = _backward(frozen, pull)
    heads = network.model.n_heads
    by_head = [
        torch.einsum("vthd,uthd->hvu", *(torch.unflatten(one[layer], -1, (heads, -1)) for one in (read, moved)))
        for layer in frozen.layers
    ]
    empty = weights.new_zeros(0, heads, *weights.shape)
    return weights, influence, direct, torch.stack(by_head) if by_head else empty


def _gains(frozen: FrozenSplice, rows: slice) -> tuple[dict[Site, Tensor], Float[Tensor, "batch d"]]:
    """The metric's gradient by every node at every token, through all later nodes, and by the last stream."""
    leaves: dict[Site, Tensor] = {}

    def given(site: Site, live: Tensor) -> Tensor:
        leaves[site] = live.clone() if live.requires_grad else live.detach().requires_grad_()
        return leaves[site]

    stream = frozen.run(_ones(frozen.network), given)
    metric = spliced_metric(frozen.network, frozen.outputs(stream), rows).sum()
    *found, pull = torch.autograd.grad(metric, [*leaves.values(), stream])
    return dict(zip(leaves, found, strict=True)), pull


def _forward(
    frozen: FrozenSplice, gains: dict[Site, Tensor], pull: Float[Tensor, "batch d"]
) -> tuple[Tensor, Tensor, dict[int, Float[Tensor, "source token d_z"]]]:
    """What each node moves, all others held: nodes and metric (weights, influence), and z of every layer."""
    network, mask = frozen.network, _ones(frozen.network, grad=True)
    reads: dict[Site, Tensor] = {}
    z: dict[int, Tensor] = {}

    def given(site: Site, live: Tensor) -> Tensor:
        reads[site] = live
        return frozen.values[site]

    def at_z(layer: int, value: Tensor) -> Tensor:
        z[layer] = value
        return value

    stream = frozen.run(mask, given, {Site("z", layer): partial(at_z, layer) for layer in frozen.layers})
    n = len(mask)
    weights, influence = (mask.new_zeros(n + 1, n) for _ in range(2))
    moved = {layer: mask.new_zeros(n, value.shape[0] * value.shape[1], value.shape[2]) for layer, value in z.items()}
    for source, changes in enumerate(directions([*reads.values(), *z.values(), stream], mask)):
        at_nodes, at_heads, last = changes[: len(reads)], changes[len(reads) : -1], changes[-1]
        for index, (site, part) in enumerate(zip(reads, at_nodes, strict=True)):
            if part is not None:
                here = network.nodes.at(index)
                weights[here.where, source] = here.summed(part.to(mask), frozen.batch.roles)
                influence[here.where, source] = here.summed(part.to(mask) * gains[site], frozen.batch.roles)
        for layer, part in zip(z, at_heads, strict=True):
            if part is not None:
                moved[layer][source] = part.flatten(0, 1)
        if last is not None:
            weights[-1, source] = influence[-1, source] = (last.to(mask) * pull).sum()
    return weights, influence, moved


def _backward(
    frozen: FrozenSplice, pull: Float[Tensor, "batch d"]
) -> tuple[Tensor, dict[int, Float[Tensor, "target token d_z"]]]:
    """How each node, and the metric, reads what it can reach without passing a head: masks, and z of every layer."""
    mask, reads = _ones(frozen.network, grad=True), {}
    leaves: dict[int, Tensor] = {}

    def given(site: Site, live: Tensor) -> Tensor:
        reads[site] = live
        return frozen.values[site]

    def at_z(layer: int, value: Tensor) -> Tensor:
        leaves[layer] = torch.zeros_like(value, requires_grad=True)
        return value.detach() + leaves[layer]

    stream = frozen.run(mask, given, {Site("z", layer): partial(at_z, layer) for layer in frozen.layers})
    n = len(mask)
    direct = mask.new_zeros(n + 1, n)
    read = {
        layer: mask.new_zeros(n + 1, leaf.shape[0] * leaf.shape[1], leaf.shape[2]) for layer, leaf in leaves.items()
    }
    for target, value in _targets(frozen, reads, (stream * pull).sum()):
        if value.requires_grad:
            found = torch.autograd.grad(value, [mask, *leaves.values()], retain_graph=True, allow_unused=True)
            if found[0] is not None:
                direct[target] = found[0]
            for layer, part in zip(leaves, found[1:], strict=True):
                if part is not None:
                    read[layer][target] = part.flatten(0, 1)
    return direct, read


def _targets(
    frozen: FrozenSplice, reads: dict[Site, Tensor], metric: Float[Tensor, ""]
) -> Iterator[tuple[int, Float[Tensor, ""]]]:
    """Each node with its latent, summed over its role's tokens in all prompts of the batch; then the metric."""
    for index, live in enumerate(reads.values()):
        here = frozen.network.nodes.at(index)
        yield from zip(here.where.tolist(), here.summed(live, frozen.batch.roles), strict=True)
    yield len(frozen.network.nodes), metric


def _ones(network: Splice, *, grad: bool = False) -> Float[Tensor, "node"]:
    dtype = torch.promote_types(network.model.dtype, torch.float32)
    return torch.ones(len(network.nodes), dtype=dtype, device=network.model.device, requires_grad=grad)
