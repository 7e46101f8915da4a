"""What each node of a circuit reads, writes and does: the profiles by which nodes are grouped.

Of every node four profiles, each a vector of its own; the first three in units of the task's metric:

    inputs    influence(u -> v) of every earlier node u
    outputs   influence(v -> w) of every later node w, and of the metric
    effects   on every prompt, what the node adds to the metric: d metric / d M_v, M_v the mask of v on that prompt
    moved     on every prompt, how far the node is from its ablation value

The first three say through what a node works and when it counts, the last what it says: nodes of one wiring may carry
different words. Two nodes are as similar as the mean of the cosines of those of the first three that both of them have,
averaged with the absolute cosine of the last (one may rise where the other falls).

Source: nodes clustered by attribution profiles, as ADAG (Arora et al. 2026) does for neurons; edges as
:mod:`gossamer.circuits.edges` has them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.edges import DirectEffects
from gossamer.circuits.nodes import Nodes, SiteNodes
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import Splice
from gossamer.display import plural, short_repr
from gossamer.finite import require_finite
from gossamer.model.site import Site


@dataclass(frozen=True, eq=False)
class PromptProfiles:
    """What the nodes of a circuit do on each prompt, in the circuit's own network; float64 on the CPU.

    Attributes:
        moved: how far each is from its ablation value, mean over the tokens of its role; 0 where there is none.
        effects: what it adds to the metric there, to first order: the gradient by its mask.
    """

    moved: Float[Tensor, "prompt node"]
    effects: Float[Tensor, "prompt node"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.moved.shape[1], "node")
        yield plural(self.moved.shape[0], "prompt")


def prompt_profiles(splice: Splice, circuit: Nodes) -> PromptProfiles:
    """Run the circuit's network once forward and once backward on every prompt of a splice.

    Memory: that of one backward pass of a batch; prompts x nodes of numbers.
    """
    network = splice.with_nodes(circuit, non_nodes="ablated")

    def of_batch(rows: slice) -> tuple[Tensor, Tensor]:
        batch = network.batch(rows)
        mask = torch.ones(len(circuit), device=splice.model.device)
        leaves: dict[Site, Tensor] = {}

        def reconstruct(site: Site, x: Tensor) -> Tensor:
            live = network.away(site, batch, x)
            leaves[site] = live.clone() if live.requires_grad else live.detach().requires_grad_()
            return network.written(site, batch, x, network.moved(site, mask, batch, leaves[site], live))

        with torch.enable_grad():
            metric = spliced_metric(network, network.outputs_of(batch, reconstruct), rows).sum()
            gradients = torch.autograd.grad(metric, list(leaves.values()))
        moved, effects = (torch.zeros(len(batch.stream), len(circuit), dtype=torch.float64) for _ in range(2))
        for index, (live, gradient) in enumerate(zip(leaves.values(), gradients, strict=True)):
            here = circuit.at(index)
            at = here.where.cpu()
            moved[:, at] = mean_over_role(here, live.detach(), batch.roles).cpu().double()
            effects[:, at] = sum_over_role(here, (live * gradient).detach(), batch.roles).cpu().double()
        return moved, effects

    parts = in_batches(len(splice.examples), splice.batch_size, of_batch)
    moved, effects = (torch.cat(found) for found in zip(*parts, strict=True))
    return PromptProfiles(moved, require_finite(effects, "effects of nodes"))


def sum_over_role(
    here: SiteNodes, values: Float[Tensor, "batch pos column"], roles: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch node"]:
    """Values of the columns, summed over each node's tokens in each prompt."""
    at = torch.nn.functional.one_hot(roles.clamp(min=0), here.n_roles) * (roles >= 0)[..., None]
    return torch.einsum("bpr,bpc->brc", at.to(values), values)[:, here.role, here.column]


def mean_over_role(
    here: SiteNodes, values: Float[Tensor, "batch pos column"], roles: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch node"]:
    """The same as a mean; 0 in prompts without such a token."""
    counts = (roles[..., None] == here.role).sum(dim=1)
    return sum_over_role(here, values, roles) / counts.clamp(min=1)


def similarity(effects: DirectEffects, profiles: PromptProfiles) -> Float[Tensor, "node node"]:
    """How similar two nodes are, from -0.5 to 1 (see the module); float64.

    A node of no input (at the first site), of no output, or of no effect on any prompt has no such profile; where two
    nodes share none, its cosine counts as 0.
    """
    influence = effects.influence.cpu().double()
    total = torch.zeros(len(effects.circuit), len(effects.circuit), dtype=torch.float64)
    shared = torch.zeros_like(total)
    for profile in (influence[:-1], influence.T, profiles.effects.T):
        there = (profile.norm(dim=1, keepdim=True) > 0).double()
        total += _cosines(profile)
        shared += there @ there.T
    return (total / shared.clamp(min=1) + _cosines(profiles.moved.T).abs()) / 2


def _cosines(profile: Float[Tensor, "node value"]) -> Float[Tensor, "node node"]:
    unit = profile / profile.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    return unit @ unit.T
