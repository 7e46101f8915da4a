"""A circuit without each of its nodes, one at a time, exactly: what pruning and minimality ask for."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import Network
from gossamer.circuits.splice import Splice
from gossamer.progress import begin


def each_left_out(
    splice: Splice, circuit: Nodes, measure: Callable[[Network], float], what: str
) -> Float[Tensor, "node"]:
    """`measure` of the circuit's network without each node alone, (nodes,) float64 on the CPU.

    Leaving a node out changes nothing before its site, so each network is run from there on only, on the stream that
    the whole circuit leaves there. Memory: one such stream (prompts x positions x d_model) at a time.

    Args:
        splice: model, dictionaries, prompts and ablation; its own nodes do not matter.
        circuit: the nodes.
        measure: a number of a network (rows in, logits at the answer out).
        what: the work's name on the progress bar.
    """
    network = splice.with_nodes(circuit, non_nodes="ablated")
    whole = torch.ones(len(circuit), device=circuit.site.device)
    found = torch.zeros(len(circuit), dtype=torch.float64)
    advance = begin(what, len(circuit))
    for index, site in enumerate(circuit.sites):
        here = torch.nonzero(circuit.site == index).squeeze(1).tolist()
        if not here:
            continue
        rest, kept = network.resume_from(site, whole)
        for node in here:
            found[node] = measure(partial(rest, (kept != node).to(whole.dtype)))
            advance(1, "")
    return found
