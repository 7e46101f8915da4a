"""What each node is worth: the circuit without it."""

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.evaluate.bench import Bench
from gossamer.circuits.nodes import Nodes
from gossamer.progress import track


def node_effects(bench: Bench, circuit: Nodes) -> Float[Tensor, "node"]:
    """Faithfulness of the circuit minus faithfulness without each node alone, on the bench's prompts, (nodes,) float64.

    Exact: one run of the network a node. A node of no effect, or of negative effect, can be dropped for free.
    """
    whole = bench.faithfulness(bench.outcome(circuit))
    everything = torch.arange(len(circuit), device=circuit.site.device)
    drops = [
        whole - bench.faithfulness(bench.outcome(circuit.select(everything != node)))
        for node in track(range(len(circuit)), "minimality", len(circuit))
    ]
    return torch.tensor(drops, dtype=torch.float64)
