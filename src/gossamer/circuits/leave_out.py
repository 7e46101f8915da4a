"""A circuit without each of its nodes, one at a time, exactly: what pruning and minimality ask for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.batching import distinct_rows, in_batches
from gossamer.circuits.batch import Batch
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.prompt_metrics import Network
from gossamer.circuits.splice import Splice
from gossamer.display import short_repr
from gossamer.model.past import Past
from gossamer.model.site import Site
from gossamer.progress import begin

# No position of a prompt.
_NEVER = torch.iinfo(torch.long).max


def each_left_out(
    splice: Splice,
    circuit: Nodes,
    measure: Callable[[Network], float],
    what: str,
    only: Bool[Tensor, "node"] | None = None,
) -> Float[Tensor, "node"]:
    """`measure` of the circuit's network without each node alone, (nodes,) float64 on the CPU.

    Leaving a node out changes nothing before its site, so each network is run from there on only, on the stream that
    the whole circuit leaves there; nothing at tokens before the first at which it is away from its ablation value,
    whose keys and values are kept; and nothing on prompts where that is after the answer position, or nowhere.
    Memory: one such stream (prompts x positions x d_model), and the keys and values of the layers after it, at a time.

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
        past: keys and values of all positions; None of a model that keeps none.
        first: at which position of a prompt a node of the site is first away from its ablation value; leaving it out
            changes nothing before. A position after the prompt where it never is, or only after the answer position.
        kind: a prompt that equals each, to the bit, from the site on and whichever of its nodes is left out.
    """

    network: Splice
    last: Float[Tensor, "prompt d"]
    past: Past | None
    first: Int[Tensor, "prompt node"]
    kind: Int[Tensor, "prompt"]

    __repr__ = short_repr

    @classmethod
    def of(cls, network: Splice, site: Site) -> "_Whole":
        """Run it once."""
        mask = torch.ones(len(network.nodes), device=network.model.device)

        def part(rows: slice) -> tuple[Tensor, Past, Tensor, Tensor]:
            past, read = Past(), dict[Site, Tensor]()
            batch = replace(network.batch(rows), past=past)
            stream = network.run(mask, batch, read).stream
            away = network.away(site, batch, read[site])
            return (
                stream,
                past,
                _first_moved(network, site, batch, away),
                rows.start + _kinds(network, site, batch, away),
            )

        with torch.no_grad():
            parts = in_batches(len(network.examples), network.batch_size, part)
        last, pasts, first, kind = zip(*parts, strict=True)
        past = Past.joined(pasts) if all(one.ran for one in pasts) else None
        return cls(network, torch.cat(last), past, torch.cat(first), torch.cat(kind))

    def without(self, node: int, rows: slice) -> Outputs:
        """What the network says of the chosen prompts without a node, by its number in the network."""
        stream, first = self.last[rows], self.first[rows, node]
        moved = first < _NEVER
        if moved.any():
            chosen = torch.arange(len(self.last), device=stream.device)[rows][moved]
            stream = stream.clone()
            stream[moved] = self._run_without(node, chosen, int(first[moved].min()))
        return Outputs(stream, self.network.unembed)

    def _run_without(self, node: int, rows: Int[Tensor, "rows"], start: int) -> Float[Tensor, "rows d"]:
        """The last stream of prompts in which nothing before position `start` changes."""
        mask = torch.ones(len(self.network.nodes), device=rows.device)
        mask[node] = 0
        one_each, of = torch.unique(self.kind[rows], return_inverse=True)
        batch = self.network.batch(one_each)
        if self.past is not None and start:
            batch = batch.after(self.past.first(one_each, start))
        return self.network.run(mask, batch).stream[of]


def _first_moved(
    network: Splice, site: Site, batch: Batch, away: Float[Tensor, "batch pos column"]
) -> Int[Tensor, "batch node"]:
    """See :class:`_Whole`; nodes of later sites are never looked at."""
    nodes = network.nodes.at(network.nodes.sites.index(site))
    answer = batch.answer_position.unsqueeze(-1)
    place = torch.arange(away.shape[1], device=away.device).view(1, -1, 1)
    by_role = []
    for role in range(len(network.nodes.roles)):
        here = (away != 0) & (batch.roles == role).unsqueeze(-1)
        first = torch.where(here, place, _NEVER).amin(dim=1)
        by_role.append(first.masked_fill(first > answer, _NEVER))
    found = torch.full((len(away), len(network.nodes)), _NEVER, device=away.device)
    found[:, nodes.where] = torch.stack(by_role)[nodes.role, :, nodes.column].t()
    return found


def _kinds(network: Splice, site: Site, batch: Batch, away: Float[Tensor, "batch pos column"]) -> Int[Tensor, "batch"]:
    """Which prompt of the batch each equals, see :class:`_Whole`."""
    whole = torch.ones(len(network.nodes), device=away.device)
    after = network.behind_first(whole, batch) if network.prompts.network.start == site else None
    if after is None:
        return torch.arange(len(away), device=away.device)
    moved = network.moved(site, whole, batch, away, away)
    first, kind = distinct_rows(after, moved, batch.tokens.mask, batch.roles, batch.ablation_groups)
    return first[kind]
