"""Greedy selection of nodes, one exact step at a time: a bound for small circuits, too dear for large ones.

Forward: of the nodes that promise most to first order at the circuit so far, the one that lowers the loss most is added
(each is tried exactly). Backward: from there the node that costs least is left out again, one at a time; at each size
the better of the two circuits counts. What no exchange of single nodes can better is no proof of the best subset, but
what a gradient or a mask misses by ranking nodes all at once it finds.
"""

import time

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.circuits.path import CircuitPath
from gossamer.circuits.refine import CircuitRefiner
from gossamer.progress import begin

# The largest circuit that is built, and how many nodes are tried exactly for each place in it.
LARGEST, TRIED = 20, 16


def greedy_path(refiner: CircuitRefiner, sizes: list[int], largest: int = LARGEST, tried: int = TRIED) -> CircuitPath:
    """Circuits of those `sizes` that are at most `largest`, by greedy steps on the refiner's own prompts.

    Cost: for each place a gradient and `tried` passes over the prompts forward, and a pass a node left backward.

    Args:
        refiner: measures exact losses; its candidates are chosen from.
        sizes: wanted; larger ones are left out.
        largest: nodes of the largest circuit.
        tried: nodes tried exactly for each place.
    """
    began = time.perf_counter()
    nodes = refiner.splice.nodes
    largest = min(largest, len(nodes))
    advance = begin("greedy selection", largest)
    best: dict[int, tuple[float, Int[Tensor, chosen]]] = {}
    circuit = torch.zeros(0, dtype=torch.long, device=nodes.site.device)
    for size in range(1, largest + 1):
        loss, circuit = _added(refiner, circuit, tried)
        best[size] = (loss, circuit)
        advance(1, f"loss {loss:.3f}")
    while len(circuit) > 1:
        losses = refiner.losses_without(circuit)
        cheapest = int(losses.argmin())
        circuit = torch.cat([circuit[:cheapest], circuit[cheapest + 1 :]])
        if float(losses[cheapest]) < best[len(circuit)][0]:
            best[len(circuit)] = (float(losses[cheapest]), circuit)
    chosen = sorted({size for size in sizes if size in best}, reverse=True)
    circuits = tuple(best[size][1] for size in chosen)
    facts = {"largest": str(largest), "tried": str(tried)}
    return CircuitPath("greedy", nodes, circuits, time.perf_counter() - began, settings=facts)


def _added(refiner: CircuitRefiner, circuit: Int[Tensor, "chosen"], tried: int) -> tuple[float, Int[Tensor, "more"]]:
    """The circuit with the one node more that lowers the loss most, of those that promise most, and its loss."""
    slope = refiner.gradient(circuit).index_fill(0, circuit, torch.inf)
    promising = torch.argsort(slope, stable=True)[: min(tried, len(slope) - len(circuit))]
    trials = [torch.cat([circuit, node.reshape(1)]) for node in promising]
    losses = [refiner.loss_of(trial) for trial in trials]
    least = min(range(len(trials)), key=losses.__getitem__)
    return losses[least], trials[least]
