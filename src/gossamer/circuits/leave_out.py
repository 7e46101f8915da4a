"""A circuit without each of its nodes, one at a time, exactly: what pruning and minimality ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.prompt_metrics import Network
from gossamer.circuits.splice import Splice
from gossamer.display import short_repr
from gossamer.model.site import Site
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
    the whole circuit leaves there; and nothing on prompts where the node is at its ablation value, or that have no
    token of its role. Memory: one such stream (prompts x positions x d_model) at a time.

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
        circuit_there = _Whole.of(rest, site)
        for node in here:
            found[node] = measure(partial(circuit_there.without, int(torch.nonzero(kept == node))))
            advance(1, "")
    return found


@dataclass(frozen=True, eq=False)
class _Whole:
    """A circuit from one of its sites on, with no node left out.

    Attributes:
        network: the circuit's network from there on.
        last: what its last stream has at the answer position.
        moves: whether a node of the site is away from its ablation value anywhere in a prompt: leaving it out changes
            nothing on others.
    """

    network: Splice
    last: Float[Tensor, "prompt d"]
    moves: Bool[Tensor, "prompt node"]

    __repr__ = short_repr

    @classmethod
    def of(cls, network: Splice, site: Site) -> "_Whole":
        """Run it once."""
        mask = torch.ones(len(network.nodes), device=network.model.device)
        nodes = network.nodes.at(network.nodes.sites.index(site))

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            outputs, read = network.read(mask, rows)
            batch = network.batch(rows)
            away = network.away(site, batch, read[site]) != 0
            roles = range(len(network.nodes.roles))
            by_role = torch.stack([(away & (batch.roles == role).unsqueeze(-1)).any(dim=1) for role in roles])
            moves = torch.zeros(len(away), len(mask), dtype=torch.bool, device=mask.device)
            moves[:, nodes.where] = by_role[nodes.role, :, nodes.column].t()
            return outputs.stream, moves

        with torch.no_grad():
            parts = in_batches(len(network.examples), network.batch_size, part)
        return cls(network, *(torch.cat(found) for found in zip(*parts, strict=True)))

    def without(self, node: int, rows: slice) -> Outputs:
        """What the network says of the chosen prompts without a node, by its number in the network."""
        stream, moved = self.last[rows], self.moves[rows, node]
        if moved.any():
            chosen = torch.arange(len(self.last), device=stream.device)[rows][moved]
            mask = torch.ones(len(self.network.nodes), device=stream.device)
            mask[node] = 0
            stream = stream.clone()
            stream[moved] = self.network.outputs(mask, chosen).stream
        return Outputs(stream, self.network.unembed)
