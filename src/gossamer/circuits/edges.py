"""Edges of a circuit: the signed direct effect of each node on each later node and on the task's metric.

Everything is measured inside the circuit's own network: its nodes unmasked, every other latent at its ablation value.

    weight(u -> v) = mean over prompts of  d v / d M_u,    v summed over the tokens of its role,

where M_u is the mask of u: d M_u = 1 moves u at all tokens of its role from its ablation value to its value. So a
weight is what u adds to v, to first order, in the units of v or of the metric: positive, u raises
v; removing u lowers v by about the weight. All other dictionaries' outputs are held constant, so that only paths
through the model's own layers count: between residual sites that leaves neighbours, because a held dictionary on the
stream lets nothing past. A v that is inactive in the circuit's network has no gradient and so no incoming edges.

Source: the linear edges of sparse feature circuits (Marks et al. 2024), with direct effects as in attribution graphs
(Ameisen et al. 2025), and the step from ablation value to value that node scores use here.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.circuit import Edge
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.features.feature import Node
from gossamer.finite import require_finite
from gossamer.model.site import Site
from gossamer.progress import begin


def circuit_edges(splice: Splice, circuit: Nodes, *, keep: int | float = 1.0) -> tuple[Edge, ...]:
    """Edges between the nodes of `circuit` and from them to the metric, strongest first for each target.

    Args:
        splice: model, dictionaries, prompts and ablation; its own nodes do not matter.
        circuit: the circuit's nodes.
        keep: how many of the edges into each target to keep, strongest |weight| first: a number of edges (int), or a
            share of its edges (float, at least one edge). Edges into different targets have different units, so they
            are not ranked against each other. Edges of weight 0 are never kept.

    Raises:
        UsageError: a share outside (0, 1], or a negative number.
    """
    if keep < 0 or (isinstance(keep, float) and not 0 < keep <= 1):
        raise UsageError(f"keep: a share in (0, 1] or a number of edges expected, found {keep!r}")
    keys = circuit.keys()
    edges: list[Edge] = []
    targets: list[Node | str] = [*keys, splice.examples.metric.name]
    for target, weights in zip(targets, direct_effects(splice, circuit).cpu(), strict=True):
        present = int((weights != 0).sum())
        count = min(present, keep if isinstance(keep, int) else max(1, round(keep * present)))
        order = torch.argsort(weights.abs(), descending=True, stable=True)[:count]
        edges += [Edge(keys[source], target, float(weights[source])) for source in order.tolist()]
    return tuple(edges)


def direct_effects(splice: Splice, circuit: Nodes) -> Float[Tensor, "target source"]:
    """All weights: row v, column u holds weight(u -> v); the last row is the task's metric. Float64.

    Cost: for each batch of prompts one forward pass, and one backward pass for each node and the metric, each
    no longer than the layers before its target. Memory: one forward pass kept for its gradients, and nodes^2 numbers.
    """
    network = splice.with_nodes(circuit, non_nodes="ablated")
    total = torch.zeros(len(circuit) + 1, len(circuit), dtype=torch.float64, device=circuit.site.device)
    n, size = len(splice.examples), splice.batch_size
    advance = begin("edges", n)

    def add(rows: slice) -> None:
        total.add_(_effects(network, rows))
        advance(rows.stop - rows.start, "")

    in_batches(n, size, add)
    return require_finite(total / n, "edge weights")


def _effects(network: Splice, rows: slice) -> Float[Tensor, "target source"]:
    """Weights summed over the prompts of one batch."""
    nodes = network.nodes
    mask = torch.ones(len(nodes), device=nodes.site.device, requires_grad=True)
    outputs, streams = network.direct_effects(mask, rows)
    effects = torch.zeros(len(nodes) + 1, len(nodes), dtype=torch.float64, device=mask.device)
    for target, value in _targets(network, streams, rows):
        effects[target] = _gradient(value, mask)
    effects[-1] = _gradient(spliced_metric(network, outputs, rows).sum(), mask)
    return effects


def _targets(network: Splice, streams: dict[Site, Tensor], rows: slice) -> Iterator[tuple[int, Float[Tensor, ""]]]:
    """Each node with its latent, summed over its role's tokens in all prompts of the batch."""
    roles = network.batch(rows).roles
    kept = roles >= 0
    for index, site in enumerate(network.nodes.sites):
        here = network.nodes.at(index)
        latents = network.dictionaries[site].encode_dense(streams[site], here.columns)[kept]
        sums = latents.new_zeros(len(network.nodes.roles), latents.shape[1]).index_add(0, roles[kept], latents)
        yield from zip(here.where.tolist(), sums[here.role, here.column], strict=True)


def _gradient(value: Float[Tensor, ""], mask: Float[Tensor, "node"]) -> Float[Tensor, "node"]:
    # The first site's latents depend on no mask at all: nothing was computed before them that needs a gradient.
    if not value.requires_grad:
        return torch.zeros_like(mask)
    gradient = torch.autograd.grad(value, mask, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(mask) if gradient is None else gradient
