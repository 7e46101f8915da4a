"""Relevance of nodes: a gradient in which norms, attention patterns and MLPs pass back linearly (RelP)."""

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.frozen_splice import FrozenSplice
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import WHOLE_BATCH, Splice
from gossamer.model.linearised import linear_mlps
from gossamer.progress import begin


def relevance(splice: Splice) -> Float[Tensor, "node"]:
    """Effect of each node by one relevance pass at the network with nothing ablated, (nodes,), signed.

    As attribution patching, but norm scales and attention patterns are held, and MLPs follow
    :func:`gossamer.model.linearised.linear_mlps`: less noise from layers that saturate. Dictionaries keep their own
    derivatives. Source: RelP, Jafari et al. 2025. Memory: as :class:`FrozenSplice`.

    Raises:
        UsageError: an MLP without an activation module.
    """
    whole = splice.with_nodes(splice.nodes, non_nodes="kept")
    total, examples = torch.zeros(len(splice.nodes), device=splice.model.device), splice.examples
    advance = begin("relevance", len(examples))

    def add(rows: slice) -> None:
        frozen = FrozenSplice.of(whole, rows)
        leaf = torch.ones_like(total).requires_grad_()
        with linear_mlps(whole.model):
            stream = frozen.run(leaf, lambda site, live: live)
        metric = spliced_metric(whole, frozen.outputs(stream), rows).sum()
        total.add_(torch.autograd.grad(metric, leaf)[0])
        advance(rows.stop - rows.start, "")

    in_batches(len(examples), min(splice.batch_size, WHOLE_BATCH), add)
    return total / (-len(examples) if examples.metric.distance else len(examples))
