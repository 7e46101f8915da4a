"""Why a head carried an edge of a circuit: which pairs of the circuit's nodes made it attend there.

An edge u -> v that a head carried went from the tokens of u's role to those of v's (to the answer's token where v is
the metric). The head's score from a token t of v to a token s of u is a product of a query and a key, and nodes of the
circuit move both:

    weight(a, b) = mean over prompts, sum over t and s of   factor (d query_t / d M_a) . (d key_s / d M_b)

is what a on the side of the query and b on that of the key add together, from ablation value to value, all other nodes
held, in the circuit's own network with norm scales (those of queries and keys too) and earlier patterns held. It is
exact where no MLP lies between the nodes and the head. Where scores are capped (Gemma 2) it is of the score linearised
where it stands. What a node adds together with a bias or an ablation value, and the competition of other keys in the
softmax, are not in it.

Source: QK attribution between features (Kamath et al. 2025), with the step from ablation value to value that edges of a
circuit use (:mod:`gossamer.circuits.edges`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.qk import HeadMaps
from gossamer.batching import in_batches
from gossamer.circuits.batch import Batch
from gossamer.circuits.edge import Edge, QKEdge
from gossamer.circuits.frozen_splice import FrozenSplice, directions
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.progress import begin

ANSWER = "answer"
# A head, the role that it attends from, and the role that it attends to.
Place = tuple[int, int, str, str]


def qk_edges(splice: Splice, circuit: Nodes, edges: Sequence[Edge], *, keep: int = 4) -> tuple[QKEdge, ...]:
    """Pairs of nodes that made heads attend that carried edges, by head and roles, the largest first.

    Of each edge the head that carried most is looked at, if it carried more than what stayed at its token.

    Cost: for each layer with such a head and each batch three forward passes, two backward passes a node, and d_head
    prompts through one layer's projections. Memory: for each node the queries and keys of that layer.

    Args:
        splice: model, dictionaries, prompts and ablation; its own nodes do not matter.
        circuit: the circuit's nodes.
        edges: of the circuit, with their heads.
        keep: pairs for each head and pair of roles, at most.

    Raises:
        UsageError: fewer than one pair asked for, or a model whose attention cannot be opened.
    """
    if keep < 1:
        raise UsageError(f"keep: at least 1 pair of nodes expected, found {keep}")
    network = splice.with_nodes(circuit, non_nodes="ablated")
    places = sorted({place for edge in edges for place in _place(edge)})
    totals = {place: torch.zeros(len(circuit), len(circuit), dtype=torch.float64) for place in places}
    count = len(splice.examples)
    layers = sorted({place[0] for place in places})
    advance = begin("pairs of nodes", count * len(layers))

    def add(rows: slice) -> None:
        frozen = FrozenSplice.of(network, rows)
        for layer in layers:
            found = _scores(frozen, layer, [place for place in places if place[0] == layer])
            for place, part in found.items():
                totals[place] += part.cpu()
            advance(rows.stop - rows.start, "")

    if places:
        in_batches(count, splice.batch_size, add)
    keys = circuit.keys()
    pairs = []
    for place, total in totals.items():
        sizes = total.flatten().abs()
        for one in sizes.argsort(descending=True, stable=True)[:keep].tolist():
            if sizes[one] > 0:
                query, key = divmod(one, len(keys))
                pairs.append(QKEdge(keys[query], keys[key], *place, float(total[query, key]) / count))
    return tuple(pairs)


def _place(edge: Edge) -> list[Place]:
    if not edge.heads or abs(edge.heads[0].weight) <= abs(edge.direct or 0.0):
        return []
    first = edge.heads[0]
    role = ANSWER if isinstance(edge.target, str) else edge.target.role or ""
    return [(first.layer, first.head, role, edge.source.role or "")]


def _scores(frozen: FrozenSplice, layer: int, places: Sequence[Place]) -> dict[Place, Float[Tensor, "query key"]]:
    """Weights of all pairs of nodes, summed over the prompts of a batch and the tokens of each place."""
    network, batch = frozen.network, frozen.batch
    queries, keys = _moved(frozen, layer)
    with torch.no_grad(), network.model.edit(frozen.as_edits()):
        maps = HeadMaps(FrozenPass.of(network.model, [], batch.tokens), layer)
    factor, group = maps.factor, network.model.n_heads // keys.shape[3]
    seen = frozen.scales[Site("pattern", layer)] > 0
    found = {}
    for place in places:
        _, head, attends, attended = place
        total = torch.zeros(len(network.nodes), len(network.nodes), dtype=torch.float64, device=queries.device)
        asked, read = _at(network, batch, attends), _at(network, batch, attended)
        for row in range(len(batch.roles)):
            for t in torch.nonzero(asked[row]).flatten().tolist():
                query, _ = maps.after("q", head, row, t, queries[:, row, t, head])
                for s in torch.nonzero(read[row] & seen[row, head, t]).flatten().tolist():
                    key, _ = maps.after("k", head, row, s, keys[:, row, s, head // group])
                    total += factor * maps.slope(float(maps.scores[row, head, t, s])) * (query @ key.T)
        found[place] = total
    return found


def _moved(
    frozen: FrozenSplice, layer: int
) -> tuple[Float[Tensor, "node batch pos head d_head"], Float[Tensor, "node batch pos kv_head d_head"]]:
    """How much each node moves a layer's projected queries and keys, all other nodes held."""
    network = frozen.network
    dtype = torch.promote_types(network.model.dtype, torch.float32)
    mask = torch.ones(len(network.nodes), dtype=dtype, device=network.model.device, requires_grad=True)
    seen: dict[str, Tensor] = {}

    def kept(kind: str, value: Tensor) -> Tensor:
        seen[kind] = value
        return value

    edits = {Site(kind, layer): (lambda value, kind=kind: kept(kind, value)) for kind in ("q_proj", "k_proj")}
    frozen.run(mask, lambda site, live: frozen.values[site], edits)
    values = [seen["q_proj"], seen["k_proj"]]
    queries, keys = (torch.zeros(len(mask), *value.shape, dtype=dtype, device=mask.device) for value in values)
    if any(value.requires_grad for value in values):
        for node, parts in enumerate(directions(values, mask)):
            for whole, part in zip((queries, keys), parts, strict=True):
                if part is not None:
                    whole[node] = part
    return queries, keys


def _at(network: Splice, batch: Batch, role: str) -> Bool[Tensor, "batch pos"]:
    """The tokens of a role, or of the answer."""
    if role == ANSWER and role not in network.nodes.roles:
        every = torch.arange(batch.roles.shape[1], device=batch.roles.device)
        return every == batch.answer_position.unsqueeze(1)
    return batch.roles == network.nodes.roles.index(role)
