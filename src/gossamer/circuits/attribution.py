"""Baselines that score every node on its own: gradients, integrated gradients, activation difference, chance.

All of them read the gradient of the task's mean metric m with respect to the mask of :class:`Splice` around the
unmasked network: d m / d M at a node is (latent - ablation value) times d m / d latent, summed over its tokens, so a
step of the mask from 1 to 0 is a step of the latent from its value to its ablation value. A score above 0 says that the
node helps: it raises a difference, or lowers a distance from the full model.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import WHOLE_BATCH, Splice
from gossamer.errors import UsageError
from gossamer.progress import begin

# Prompts of one backward pass, at most: it keeps what every layer after the first dictionary needs, where a pass
# without gradients keeps nothing. A step of the mask search is one such pass.
GRADIENT_BATCH = 32


def attribution_patching(splice: Splice) -> Float[Tensor, "node"]:
    """First-order effect of each node: one gradient at the unmasked network (Nanda 2023). Shape (nodes,), signed.

    Raises:
        UsageError: a distance from the model with exact errors re-added, by policy or as nodes: the unmasked network is
            the model itself, where the distance is smallest and has no gradient.
    """
    errors, every = int(splice.nodes.is_error.sum()), len(splice.nodes.sites) * len(splice.nodes.roles)
    if splice.examples.metric.distance and (splice.ablation.errors == "keep" or errors == every):
        raise UsageError(
            f"attribution patching: {splice.examples.metric.label} has no gradient where exact errors make the network "
            "the model itself; use integrated gradients, another metric or other errors"
        )
    return gradient_at(splice, 1.0, "attribution patching")


def gradient_at(splice: Splice, mask: float, what: str) -> Float[Tensor, "node"]:
    """Gradient of the mean metric where every node's mask is `mask` and every other latent is kept, signed."""
    whole = splice.with_nodes(splice.nodes, non_nodes="kept")
    return _mean_gradient(whole, torch.full((len(splice.nodes),), mask, device=splice.model.device), what)


def integrated_gradients(splice: Splice, points: int = 10) -> Float[Tensor, "node"]:
    """Integrated gradients per site, every other site unmasked; left Riemann sum (Marks et al. 2024).

    The path takes one site's nodes from their clean values to their ablation values; `points` gradients each. Error
    nodes of other sites keep their values, as their latents do.
    """
    nodes = splice.nodes
    scores = torch.zeros(len(nodes), device=splice.model.device)
    for index, site in enumerate(nodes.sites):
        used = torch.nonzero((nodes.site == index) | nodes.is_error).squeeze(1)
        here = nodes.site[used] == index
        whole = splice.with_nodes(nodes.select(used), non_nodes="kept")
        for point in range(points):
            mask = torch.where(here, 1 - point / points, 1.0).to(scores)
            gradient = _mean_gradient(whole, mask, f"integrated gradients {site}")
            scores[used[here]] += gradient[here] / points
    return scores


def activation_difference(splice: Splice) -> Float[Tensor, "node"]:
    """Mean over prompts of |latent - ablation value| times the decoder row's norm, summed over the node's tokens.

    Of an error node: of the norm of what it adds.
    """
    nodes = splice.nodes
    scores = torch.zeros(len(nodes), device=splice.model.device)

    def add(rows: slice) -> None:
        found, batch = splice.latents(rows), splice.batch(rows)
        sums = torch.zeros_like(scores)
        for index, site in enumerate(nodes.sites):
            here = nodes.at(index)
            norms = splice.dictionaries[site].W_dec[here.columns].float().norm(dim=1)
            moved = found[site][1].float().abs() * norms
            if here.has_error:
                moved = torch.cat([moved, batch.errors[site].float().norm(dim=-1, keepdim=True)], dim=-1)
            sums[here.where] = here.summed(moved, batch.roles)
        scores.add_(sums)

    _over_prompts(splice, "activation difference", splice.batch_size, add)
    return scores / len(splice.examples)


def random_scores(splice: Splice, seed: int = 0) -> Float[Tensor, "node"]:
    """Uniform scores: what size alone buys."""
    return torch.rand(len(splice.nodes), generator=torch.Generator().manual_seed(seed)).to(splice.model.device)


def ranking(
    scores: Float[Tensor, "node"], nodes: Nodes, by: str = "global", signed: bool = False
) -> Int[Tensor, "node"]:
    """Nodes by falling |score|, or by falling score, so that any prefix is a circuit.

    The absolute ranking takes in nodes that hurt (as Marks et al. 2024 threshold); the signed one takes those that help
    first (as MIB ranks for its CPR, Mueller et al. 2025), so that small circuits keep more of the metric.

    Args:
        scores: one number a node, signed.
        nodes: what the scores are of.
        by: "global": one threshold for all sites; "site": one threshold for scores divided by their site's sum of
            |score|, because raw scores differ in scale between layers.
        signed: by score instead of |score|.

    Raises:
        UsageError: unknown `by`.
    """
    value = scores if signed else scores.abs()
    if by == "site":
        totals = torch.zeros(len(nodes.sites), device=value.device).index_add_(0, nodes.site, scores.abs())
        value = value / totals[nodes.site].clamp(min=torch.finfo(value.dtype).tiny)
    elif by != "global":
        raise UsageError(f"thresholds are 'global' or 'site', found {by!r}")
    return torch.argsort(value, descending=True, stable=True)


def _mean_gradient(splice: Splice, mask: Tensor, what: str) -> Float[Tensor, "node"]:
    total, examples = torch.zeros_like(mask), splice.examples

    def add(rows: slice) -> None:
        leaf = mask.clone().requires_grad_()
        metric = spliced_metric(splice, splice.outputs(leaf, rows), rows)
        total.add_(torch.autograd.grad(metric.sum(), leaf)[0])

    _over_prompts(splice, what, min(splice.batch_size, WHOLE_BATCH), add)
    return total / (-len(examples) if examples.metric.distance else len(examples))


def _over_prompts(splice: Splice, what: str, batch_size: int, work: Callable[[slice], None]) -> None:
    """Call `work` on all prompts in batches; it changes its sums last, so that a batch can be tried again."""
    advance = begin(what, len(splice.examples))

    def step(rows: slice) -> None:
        work(rows)
        advance(rows.stop - rows.start, "")

    in_batches(len(splice.examples), batch_size, step)
