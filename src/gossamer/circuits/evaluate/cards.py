"""What can be said of each node: where it fires, what it writes, what it is worth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from gossamer.batching import in_batches
from gossamer.circuits.evaluate.error_cards import error_cards
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.nodes import Nodes, SiteNodes
from gossamer.circuits.results import NodeCard
from gossamer.circuits.splice import Splice
from gossamer.features import Feature, FeatureCard, feature_cards
from gossamer.features.examples import ExampleSettings
from gossamer.features.feature_card import CardSource
from gossamer.features.lens import writes_to_stream
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import frozen_weights

N_WORDS = 8
N_EXAMPLES = 5


@dataclass(frozen=True)
class _Fired:
    """One site's circuit latents on every prompt of the evaluator, and what one unit is in the stream at the answer."""

    values: Float[Tensor, "prompt pos column"]
    changes: Float[Tensor, "prompt pos column"]
    scale: Float[Tensor, "prompt 1"]


def node_cards(
    evaluator: Evaluator,
    circuit: Nodes,
    effects: Float[Tensor, "node"],
    generic: Mapping[Feature, tuple[str, ...]] | None = None,
    source: CardSource | None = None,
) -> tuple[NodeCard, ...]:
    """One card a node, by falling effect, with the card of its feature from `source`, else of the evaluator's prompts.

    Activations are the latents of the model's own stream on the evaluator's clean prompts: mean over the tokens of the
    node's role, against the ablation value there. `direct` is what the latent adds to the metric at the answer
    position by itself, to first order: (latent - ablation value) times its decoder row times the gradient of the metric
    by the prompt's final stream (:func:`final_gradient`); zero at roles that do not hold the answer position, NaN for a
    distance from the model and at sites that do not write to the stream (z). Of error nodes: :func:`error_cards`.
    Memory: prompts x positions x distinct latents of the circuit, twice.
    """
    if not len(circuit):
        return ()
    splice = evaluator.splice.with_nodes(circuit)
    gradient, fired = final_gradient(splice), _fired(splice)
    features = sorted({node.feature for node in circuit.keys() if not node.is_error})  # noqa: SIM118 - no mapping
    known: Mapping[Feature, FeatureCard] = {}
    if features and source is not None:
        known = source.cards(features)
    elif features:
        settings = ExampleSettings(k=N_EXAMPLES, window=None)
        tokens = splice.examples.clean.tokens.to("cpu")
        known = feature_cards(splice.model, splice.dictionaries, features, tokens, settings=settings, words=N_WORDS)
    cards = error_cards(splice, circuit, effects, gradient, N_EXAMPLES)
    for index, site in enumerate(circuit.sites):
        here = circuit.at(index).latents_only()
        if len(here.columns):
            cards += _site_cards(splice, site, here, effects, fired[site], gradient, known, generic or {})
    return tuple(sorted(cards, key=lambda card: -card.effect))


def _site_cards(
    splice: Splice,
    site: Site,
    here: SiteNodes,
    effects: Float[Tensor, "node"],
    fired: _Fired,
    gradient: Float[Tensor, "prompt d"],
    known: Mapping[Feature, FeatureCard],
    generic: Mapping[Feature, tuple[str, ...]],
) -> list[NodeCard]:
    written = _written(splice, site, here.columns, fired, gradient)
    roles, end = splice.examples.clean.roles, splice.examples.clean.answer_position
    answer_role = roles.gather(1, end[:, None]).squeeze(1)
    cards = []
    for where, role, column in zip(here.where.tolist(), here.role.tolist(), here.column.tolist(), strict=True):
        tokens = roles == role
        feature = Feature(site, int(here.columns[column]))
        activation = _mean(fired.values[..., column][tokens])
        cards.append(
            NodeCard(
                known[feature],
                role=splice.nodes.roles[role],
                effect=effects[where].item(),
                activation=activation,
                ablated=activation - _mean(fired.changes[..., column][tokens]),
                direct=_mean(written[:, column] * (answer_role == role)),
                generic=generic.get(feature, ()),
            )
        )
    return cards


def _mean(values: Tensor) -> float:
    # On the CPU, because not every device has float64.
    return values.cpu().double().mean().item() if values.numel() else 0.0


def final_gradient(splice: Splice) -> Float[Tensor, "prompt d"]:
    """Gradient of each prompt's metric by the model's own final stream at the answer position.

    It goes through the model's own final norm, head and cap on logits, so that it holds for every family: the norm's
    weight (Gemma: 1 + weight), its centring and its scale at that stream are all in it. NaN for a distance from the
    model: it is smallest there, so that nothing changes it to first order.
    """
    model, examples = splice.model, splice.examples
    last = model.sites("resid_post")[-1]
    if examples.metric.distance:
        return torch.full((len(examples), model.width(last)), math.nan, device=model.device)

    def part(rows: slice) -> Tensor:
        batch = splice.batch(rows)
        with torch.no_grad():
            stream = model.capture(batch.tokens, [last])[last]
        leaf = stream[torch.arange(len(stream), device=stream.device), batch.answer_position].requires_grad_()
        with torch.enable_grad(), frozen_weights(model.hf):
            metric = examples.measure(model.unembed(leaf), rows)
        return torch.autograd.grad(metric.sum(), leaf)[0]

    return torch.cat(in_batches(len(examples), splice.batch_size, part))


def _fired(splice: Splice) -> dict[Site, _Fired]:
    sites, width = list(splice.dictionaries), splice.examples.clean.roles.shape[1]

    def part(rows: slice) -> dict[Site, _Fired]:
        batch = splice.batch(rows)
        with torch.no_grad():
            streams = splice.model.capture(batch.tokens, sites)
        found = {}
        for site, (values, changes) in splice.latents(rows, streams).items():
            missing = (0, 0, 0, width - values.shape[1])
            ends = streams[site][torch.arange(len(batch.answer_position), device=values.device), batch.answer_position]
            _, statistics = splice.dictionaries[site].normalise(ends)
            scale = torch.ones_like(ends[:, :1]) if statistics is None else statistics.scale
            found[site] = _Fired(pad(values, missing), pad(changes, missing), scale)
        return found

    parts = in_batches(len(splice.examples), splice.batch_size, part)
    return {site: _joined([part[site] for part in parts]) for site in sites}


def _joined(parts: list[_Fired]) -> _Fired:
    values, changes = torch.cat([part.values for part in parts]), torch.cat([part.changes for part in parts])
    return _Fired(values, changes, torch.cat([part.scale for part in parts]))


def _written(
    splice: Splice, site: Site, columns: Int[Tensor, "column"], fired: _Fired, gradient: Float[Tensor, "prompt d"]
) -> Float[Tensor, "prompt column"]:
    """What each latent's change at the answer position adds to the metric directly."""
    if not writes_to_stream(site):
        return gradient.new_full((len(gradient), len(columns)), math.nan)
    at_end = fired.changes[torch.arange(len(gradient), device=gradient.device), splice.examples.clean.answer_position]
    with torch.no_grad():
        towards = gradient.float() @ splice.dictionaries[site].W_dec[columns].float().T
        return at_end.float() * fired.scale.float() * towards
