"""EAP-IG (inputs) for nodes: mean gradients by latents, from the counterfactual's embeddings to the prompt's."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.batch import Batch
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import WHOLE_BATCH, Splice
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.tokens import Tokens

_EMBEDDED = Site("resid_pre", 0)


def input_gradients(splice: Splice, steps: int = 5) -> Float[Tensor, "node"]:
    """Effect of each node to first order, along the way from the counterfactual's input to the prompt's, (nodes,).

    The score of a node is (latent - ablation value) on the prompt times the mean gradient of the metric by the latent
    in passes whose input embeddings are ``e' + k/steps (e - e')``, k = 1 .. steps; nothing is ablated. Signed: above 0
    it helps. (Hanna et al. 2024, for edges; nodes as in MIB, Mueller et al. 2025.)

    Raises:
        UsageError: prompts that are not aligned with their counterfactuals token by token.
    """
    examples = splice.examples
    if not examples.aligned:
        raise UsageError(
            "input gradients: prompts aligned token by token with their counterfactuals expected, found some that are "
            "not; use integrated gradients, which take no other input"
        )
    whole = splice.with_nodes(splice.nodes, non_nodes="kept")
    total = torch.zeros(len(splice.nodes), device=splice.model.device)
    advance = begin("input gradients", len(examples))

    def add(rows: slice) -> None:
        batch = whole.batch(rows)
        with torch.no_grad():
            ends = [_embedded(whole, side.tokens[rows]) for side in (examples.clean, examples.counterfactual)]
            away = {site: whole.away(site, batch, x) for site, x in whole.own_streams(batch).items()}
        sums = torch.zeros_like(total)
        for step in range(1, steps + 1):
            between = _reaching(whole, batch, torch.lerp(ends[1], ends[0], step / steps))
            for index, (site, gradient) in enumerate(_gradients(whole, between, rows).items()):
                here = whole.nodes.at(index)
                sums[here.where] += here.summed(gradient * away[site], batch.roles).to(sums)
        total.add_(sums)
        advance(rows.stop - rows.start, "")

    in_batches(len(examples), min(splice.batch_size, WHOLE_BATCH), add)
    return total / (steps * len(examples) * (-1 if examples.metric.distance else 1))


def _embedded(network: Splice, tokens: Tokens) -> Float[Tensor, "batch pos d"]:
    """What the first layer reads, of prompts cut to the longest of them."""
    width = int(tokens.mask.sum(dim=1).max())
    cut = Tokens(tokens.ids[:, :width], tokens.mask[:, :width])
    return network.model.capture(cut, [_EMBEDDED])[_EMBEDDED]


@torch.no_grad()
def _reaching(network: Splice, batch: Batch, embedded: Float[Tensor, "batch pos d"]) -> Batch:
    """The batch with the stream that these embeddings lead to where the network starts."""
    start = network.prompts.network.start
    if start == _EMBEDDED:
        return replace(batch, stream=embedded)
    return replace(batch, stream=network.model.capture(batch.tokens, [start], start=(_EMBEDDED, embedded))[start])


def _gradients(network: Splice, batch: Batch, rows: slice) -> dict[Site, Float[Tensor, "batch pos column"]]:
    """The metric's gradient by the latents of every site's columns, nothing ablated."""
    mask = torch.ones(len(network.nodes), device=batch.stream.device)
    leaves: dict[Site, Tensor] = {}

    def reconstruct(site: Site, x: Tensor) -> Tensor:
        live = network.away(site, batch, x)
        # A tensor of its own: what reaches the site through all other latents is no part of this latent's effect.
        leaves[site] = live.clone() if live.requires_grad else live.detach().requires_grad_()
        return network.written(site, batch, x, network.moved(site, mask, batch, leaves[site], live))

    metric = spliced_metric(network, network.outputs_of(batch, reconstruct), rows).sum()
    return dict(zip(leaves, torch.autograd.grad(metric, list(leaves.values())), strict=True))
