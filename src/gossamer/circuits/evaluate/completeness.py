"""Is anything missing: does the rest still do the task, and do circuit and model fall together when parts go?"""

import torch
from jaxtyping import Bool
from torch import Tensor

from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.results import Completeness, KnockoutPoint
from gossamer.progress import track


def completeness(evaluator: Evaluator, circuit: Nodes, *, subsets: int = 12, seed: int = 0) -> Completeness:
    """Knock the circuit out of the spliced model, and compare F(C without K) with F(M without K) for subsets K of C.

    K is removed at the circuit's own nodes only, in both networks (the published test removed a
    latent at every position). M is the model with all dictionaries; F is faithfulness to the full model.

    Args:
        evaluator: held-out prompts.
        circuit: the nodes C.
        subsets: random subsets K, of sizes spread evenly over 1 .. |C| - 1; K empty and K = C are added.
        seed: of the subsets.
    """
    generator = torch.Generator().manual_seed(seed)
    removed = [("none", torch.zeros(len(circuit), dtype=torch.bool))]
    sizes = torch.linspace(1, max(len(circuit) - 1, 1), subsets).round().long().tolist() if len(circuit) > 1 else []
    for size in sizes:
        chosen = torch.randperm(len(circuit), generator=generator)[:size]
        removed.append(("random", torch.zeros(len(circuit), dtype=torch.bool).index_fill(0, chosen, True)))
    removed.append(("whole circuit", torch.ones(len(circuit), dtype=torch.bool)))
    knocked = track(removed, "completeness", len(removed))
    points = tuple(_point(evaluator, circuit, kind, gone) for kind, gone in knocked)
    return Completeness(evaluator.task_metrics("circuit knocked out", evaluator.without(circuit)), points)


def _point(evaluator: Evaluator, circuit: Nodes, kind: str, gone: Bool[Tensor, "node"]) -> KnockoutPoint:
    gone = gone.to(circuit.site.device)
    kept = evaluator.kept(circuit.select(~gone))
    rest = evaluator.kept(circuit.select(gone), non_nodes="kept", weight=0.0)
    return KnockoutPoint(kind, int(gone.sum()), kept, rest)
