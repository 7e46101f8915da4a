"""A circuit without each of its nodes, one at a time, exactly: what pruning and minimality ask for."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import Network
from gossamer.circuits.splice import Splice
from gossamer.progress import begin


def each_left_out(
    splice: Splice,
    circuit: Nodes,
    measure: Callable[[Network], float],
    what: str,
    only: Bool[Tensor, "node"] | None = None,
) -> Float[Tensor, "node"]:
    """`measure` of the circuit's network without each node alone, (nodes,) float64 on the CPU.

    Leaving a node out changes nothing before its site, so each network is run from there on only, on the stream that
    the whole circuit leaves there. Memory: one such stream (prompts x positions x d_model) at a time.

    Args:
        splice: model, dictionaries, prompts and ablation; its own nodes do not matter.
        circuit: the nodes.
        measure: a number of a network (rows in, outputs out).
        what: the work's name on the progress bar.
        only: the nodes to leave out; infinity stands for all others.
    """
    network = splice.with_nodes(circuit, non_nodes="ablated")
    whole = torch.ones(len(circuit), device=circuit.site.device)
    found = torch.full((len(circuit),), torch.inf, dtype=torch.float64)
    tried = torch.ones_like(circuit.site, dtype=torch.bool) if only is None else only.to(circuit.site.device)
    advance = begin(what, int(tried.sum()))
    for index, site in enumerate(circuit.sites):
        here = torch.nonzero((circuit.site == index) & tried).squeeze(1).tolist()
        if not here:
            continue
        rest, kept = network.resume_from(site, whole)
        for node in here:
            found[node] = measure(partial(rest.outputs, (kept != node).to(whole.dtype)))
            advance(1, "")
    return found
