"""What can be said of an error node: how large the error is, where it is largest, and what it adds to the metric."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.circuits.nodes import Nodes
from gossamer.circuits.results import NodeCard
from gossamer.circuits.splice import Splice
from gossamer.features import Feature, FeatureCard, FeatureExample, Histogram
from gossamer.features.feature_card import HISTOGRAM_EDGES
from gossamer.features.lens import writes_to_stream


def error_cards(
    splice: Splice,
    circuit: Nodes,
    effects: Float[Tensor, "node"],
    gradient: Float[Tensor, "prompt d"],
    examples: int,
) -> list[NodeCard]:
    """A card of every error node of a circuit, on the splice's prompts.

    Its direction is another one on each prompt, so that it promotes no words of its own. In place of an activation
    stands the norm of what it adds to the stream, mean over the tokens of its role, ablated to 0; its examples are the
    prompts on which that is largest. `direct` is what it adds to the metric at the answer position by itself, to first
    order, with `gradient` that of the metric by each prompt's final stream.
    """
    clean, found = splice.examples.clean, []
    rows = torch.arange(len(gradient), device=gradient.device)
    for node, key in enumerate(circuit.keys()):
        if not key.is_error:
            continue
        error = splice.prompts.errors[key.site].float()
        here, sizes = clean.roles == int(circuit.role[node]), error.norm(dim=-1)
        at_answer = here[rows, clean.answer_position]
        added = (error[rows, clean.answer_position] * gradient).sum(dim=-1) * at_answer
        found.append(
            NodeCard(
                _card(splice, key.feature, sizes, here, examples),
                role=key.role or "",
                effect=effects[node].item(),
                activation=sizes[here].cpu().double().mean().item(),
                ablated=0.0,
                direct=added.cpu().double().mean().item() if writes_to_stream(key.site) else math.nan,
            )
        )
    return found


def _card(
    splice: Splice,
    feature: Feature,
    sizes: Float[Tensor, "prompt pos"],
    here: Bool[Tensor, "prompt pos"],
    examples: int,
) -> FeatureCard:
    values = sizes[here].cpu()
    bins = torch.bucketize(values[values > 0], torch.tensor(HISTOGRAM_EDGES), right=True) - 1
    counts = torch.bincount(bins.clamp(0, len(HISTOGRAM_EDGES) - 2), minlength=len(HISTOGRAM_EDGES) - 1)
    largest = sizes.masked_fill(~here, -torch.inf).amax(dim=1)
    order = torch.argsort(largest, descending=True, stable=True)[:examples]
    tokens = splice.examples.clean.tokens
    shown = []
    for row in order[largest[order] > 0].tolist():
        real = tokens.mask[row]
        there = sizes[row].masked_fill(~here[row], 0.0)[real]
        words = tuple(splice.model.word(one) for one in tokens.ids[row][real].tolist())
        shown.append(FeatureExample(words, tuple(there.tolist()), int(there.argmax()), row))
    return FeatureCard(
        feature,
        splice.model.title,
        tokens=len(values),
        active=int((values > 0).sum()),
        mean=values.double().mean().item(),
        std=values.double().std(unbiased=False).item(),
        maximum=values.max().item(),
        histogram=Histogram.from_bins(counts.tolist()),
        examples=tuple(shown),
        explanation="what the dictionary leaves out of the stream: its reconstruction error",
    )
