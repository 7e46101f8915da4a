"""How many edges carry what a circuit does: only the strongest are kept, beside as many random ones.

A removed edge carries its source's ablation value (:mod:`gossamer.circuits.evaluate.edge_network`, which runs the model
itself). Edges are ranked by |influence|, measured to first order in a frozen network on training prompts; faithfulness
is of held-out prompts. Edges whose measured weight is 0 are never kept: most of them cannot carry anything, but a node
that is inactive may be kept so by others, so that all measured edges need not give all of the circuit back.
"""

from functools import partial

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.circuits.edge import EdgePoint, EdgeTest
from gossamer.circuits.edges import DirectEffects
from gossamer.circuits.evaluate.edge_network import EdgeNetwork
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.errors import UsageError
from gossamer.progress import begin

DRAWS = 3


def edge_counts(total: int) -> list[int]:
    """Numbers of edges that are tested: all of them, and halves down to one; rising."""
    counts = []
    while total:
        counts.append(total)
        total //= 2
    return counts[::-1]


def edge_test(evaluator: Evaluator, effects: DirectEffects, *, draws: int = DRAWS, seed: int = 0) -> EdgeTest:
    """Faithfulness when only the strongest edges are kept, and when as many random ones are.

    Cost: for each number of edges (about log2 of all of them) 1 + `draws` runs of an :class:`EdgeNetwork`.

    Args:
        evaluator: of held-out prompts, none of which edges were measured on.
        effects: the measured edges.
        draws: random sets for each number of edges; each holds the smaller ones of the same draw.
        seed: of the random sets.

    Raises:
        UsageError: no random set.
    """
    if draws < 1:
        raise UsageError(f"draws: at least 1 random set of edges expected, found {draws}")
    network = evaluator.splice.with_nodes(effects.circuit, non_nodes="ablated")
    present = torch.nonzero(effects.weights != 0)
    sizes = effects.influence[present[:, 0], present[:, 1]].abs()
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.argsort(sizes, descending=True, stable=True)]
    orders += [torch.randperm(len(present), generator=generator) for _ in range(draws)]
    counts = edge_counts(len(present))
    advance = begin("edges kept", len(counts) * len(orders))

    def metric(kept: Bool[Tensor, "target source"]) -> Tensor:
        found = evaluator.full.metric_of(EdgeNetwork(network, kept), evaluator.splice.batch_size)
        advance(1, "")
        return found

    def point(count: int) -> EdgePoint:
        ours, *others = (metric(_kept(effects, present[order[:count]])) for order in orders)
        interval = partial(evaluator.full.interval, weights=evaluator.weights)
        shares = tuple(evaluator.full.share(one) for one in others)
        return EdgePoint(count, interval(ours), interval(torch.stack(others).mean(dim=0)), shares)

    ends = (evaluator.prompt_metrics(nodes) for nodes in (effects.circuit.none(), effects.circuit))
    none, every = (evaluator.full.interval(one.metric, evaluator.weights) for one in ends)
    return EdgeTest(tuple(map(point, counts)), effects.prompts, len(evaluator.splice.examples), none, every)


def _kept(effects: DirectEffects, edges: Int[Tensor, "edge two"]) -> Bool[Tensor, "target source"]:
    kept = torch.zeros_like(effects.weights, dtype=torch.bool)
    kept[edges[:, 0], edges[:, 1]] = True
    return kept.to(effects.circuit.site.device)
