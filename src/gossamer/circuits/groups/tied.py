"""A circuit whose groups each move as one: a single number a prompt in place of one for each of their nodes.

With y_j how far node j is from its ablation value (mean over the tokens of its role), a group's nodes move along one
direction d, as far as fits them best:

    s = sum_j w_j^2 y_j d_j / sum_j w_j^2 d_j^2,      y_j becomes s d_j,

by a shift that is the same at all tokens of j's role. Weights w_j are what a unit of y_j is worth to the metric, and d
is the leading direction of the weighted y on training prompts; no mean is subtracted. So s is the group's activation,
and what the network still does is what one number a group can say. It is taken on what reaches each site in that
network itself, in which all earlier groups are tied already.

A group of one node has d = 1 and s = y: it is that node. All groups of one are the circuit. A group over several roles
takes its number from all of their tokens, so that a later token may say something of an earlier one: a test of the
grouping, not a model of how the network computes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.groups.profiles import PromptProfiles, mean_over_role
from gossamer.circuits.nodes import Nodes, SiteNodes
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.prompt_metrics import Network
from gossamer.circuits.splice import Splice
from gossamer.display import plural, short_repr
from gossamer.model.site import Site

_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, eq=False)
class Ties:
    """How the nodes of a circuit hang together.

    Attributes:
        label: number of each node's group.
        direction: d of each node within its group; of unit length in the group's weights, or 1 where it is alone.
        weight: w^2 d of each node, over the group's sum of w^2 d^2: what s weighs it with.
    """

    label: Int[Tensor, "node"]
    direction: Float[Tensor, "node"]
    weight: Float[Tensor, "node"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.label), "node")
        yield plural(len(torch.unique(self.label)), "box", "boxes")


def ties(label: Int[Tensor, "node"], profiles: PromptProfiles) -> Ties:
    """Directions of groups, fitted on the prompts of the profiles.

    A group whose nodes never move, or are worth nothing, on these prompts weighs them alike.
    """
    direction, weight = torch.ones(len(label), dtype=torch.float64), torch.ones(len(label), dtype=torch.float64)
    each = worth(profiles)
    for group in torch.unique(label).tolist():
        nodes = torch.nonzero(label == group).squeeze(1)
        if len(nodes) == 1:
            continue
        w = each[nodes]
        w = torch.where(w.sum() > 0, w, torch.ones_like(w))
        scaled = profiles.moved[:, nodes] * w
        leading = torch.linalg.svd(scaled, full_matrices=False).Vh[0]
        # In units of y: d = leading / w. A node of no worth follows by least squares, and is not asked for s.
        s = scaled @ leading
        fit = (s @ profiles.moved[:, nodes]) / (s @ s).clamp(min=_TINY)
        direction[nodes] = torch.where(w > 0, leading / w.clamp(min=_TINY), fit)
        weight[nodes] = leading * w
    return Ties(label, direction, weight)


def worth(profiles: PromptProfiles) -> Float[Tensor, "node"]:
    """What a unit of a node's movement is worth to the metric: one root mean square over prompts by the other."""
    moved, effects = (one.square().mean(dim=0).sqrt() for one in (profiles.moved, profiles.effects))
    return torch.where(moved > 0, effects / moved.clamp(min=_TINY), torch.zeros_like(moved))


def tied(splice: Splice, circuit: Nodes, given: Ties) -> Network:
    """The circuit's network under ties: rows in, outputs out, of the prompts of `splice`."""
    network = splice.with_nodes(circuit, non_nodes="ablated")
    mask = torch.ones(len(circuit), device=splice.model.device)

    def outputs(rows: slice) -> Outputs:
        batch = network.batch(rows)

        def reconstruct(site: Site, x: Tensor) -> Tensor:
            live = network.away(site, batch, x)
            moved = live + _shift(circuit.at(circuit.sites.index(site)), given, live, batch.roles)
            return network.written(site, batch, x, network.moved(site, mask, batch, moved, live))

        return network.outputs_of(batch, reconstruct)

    return outputs


def _shift(
    here: SiteNodes, given: Ties, live: Float[Tensor, "batch pos column"], roles: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos column"]:
    """What is added to each column at each token."""
    at = here.where.to(given.label.device)
    label, direction, weight = (part[at].to(live.device) for part in (given.label, given.direction, given.weight))
    _, group, sizes = torch.unique(label, return_inverse=True, return_counts=True)
    y = mean_over_role(here, live, roles)
    s = y.new_zeros(len(y), len(sizes)).index_add(1, group, y * weight.to(y))
    # To the bit where a node is alone: nothing is added, not what rounding makes of it.
    shift = torch.where(sizes[group] > 1, s[:, group] * direction.to(y) - y, 0.0)
    grid = y.new_zeros(len(y), here.n_roles, live.shape[2])
    grid[:, here.role, here.column] = shift
    return grid.gather(1, roles.clamp(min=0)[..., None].expand(-1, -1, live.shape[2]))
