"""Attribution graphs of a circuit on single prompts, with everything that is not in the circuit as errors.

On each prompt, in the model itself with attention patterns and norm scales held: features are the circuit's nodes at
the tokens of their roles, where they are active. A dictionary's site is a cut of the stream, so that at each token it
holds the circuit's latents there (activation times decoder row) and a rest, which is one error: reconstruction error,
biases and latents outside the circuit. Before the first dictionary the stream is the tokens'; so is it at tokens that
pass through. An effect is a source's share of the stream times the gradient of the target by it (a latent, or the
task's metric, the one output): of everything that reaches a target from the cut before it. As in circuit-tracer's
graphs (Ameisen et al. 2025) effects of a target sum to what it would lose to first order without all of them; its
graphs have transcoders where these have dictionaries on the stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.circuits.bootstrap import bootstrap_weights
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.graph_scores import graph_scores
from gossamer.circuits.frozen_splice import FrozenSplice
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import last_stream
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.shortfalls import ExplainedInputs
from gossamer.circuits.splice import Splice
from gossamer.model.inputs import gathered
from gossamer.model.site import Site
from gossamer.progress import track
from gossamer.statistics import Interval

# The stream before the first layer.
EMBEDDING = Site("resid_pre", 0)
# Held-out prompts that are looked at: each takes a backward pass for each of its features.
PROMPTS = 16


@dataclass(frozen=True, eq=False)
class EffectGraph:
    """A graph in the order features (site by site), errors (site by site, token by token), tokens, the metric.

    Attributes:
        effects: row: target, column: source; float64.
        features: how many nodes are features.
        errors, tokens: which nodes are these.
        outputs: 1 at the metric.
    """

    effects: Float[Tensor, "node node"]
    features: int
    errors: Bool[Tensor, "node"]
    tokens: Bool[Tensor, "node"]
    outputs: Float[Tensor, "node"]


@dataclass(frozen=True)
class _Cut:
    """What the circuit has at one site of a prompt: latents, their tokens and activations, and where in the graph."""

    site: Site
    latents: Int[Tensor, "feature"]
    positions: Int[Tensor, "feature"]
    values: Float[Tensor, "feature"]
    first: int


def explained_inputs(evaluator: Evaluator, circuit: Nodes) -> ExplainedInputs | None:
    """circuit-tracer's scores of a circuit's graphs on the first held-out prompts; None where sites cut no stream.

    None too where a dictionary normalises its input: its rows then write at a scale that is no share of the stream.
    """
    splice = evaluator.splice
    dictionaries = splice.dictionaries
    if any(not site.facts.residual or one.config.normalisation != "none" for site, one in dictionaries.items()):
        return None
    rows = torch.arange(min(PROMPTS, len(splice.examples)), device=splice.model.device)
    some = splice.select(rows)
    found = []
    for row in track(range(len(rows)), "graphs of held-out prompts", len(rows)):
        graph = prompt_graph(some, circuit, row)
        scores = graph_scores(graph.effects, graph.errors, graph.tokens, graph.outputs)
        found.append((scores.replacement, scores.completeness))
    weights = bootstrap_weights(some.examples, evaluator.seed)
    replacement, completeness = (
        _mean(torch.tensor(one, dtype=torch.float64), weights) for one in zip(*found, strict=True)
    )
    return ExplainedInputs(replacement, completeness, len(rows))


def _mean(values: Float[Tensor, "prompt"], weights: Float[Tensor, "draw prompt"]) -> Interval:
    drawn = weights @ values / weights.sum(dim=1)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(values.mean().item(), low, high)


def prompt_graph(splice: Splice, circuit: Nodes, row: int) -> EffectGraph:
    """The graph of a circuit on one prompt of a splice, whose own nodes do not matter.

    Cost: a forward pass, and a backward pass from each active feature to the dictionary before it.
    """
    network, rows = splice.with_nodes(circuit.select(~circuit.is_error)), slice(row, row + 1)
    model, batch, last = splice.model, splice.batch(rows), last_stream(splice.model)
    with model.freeze(batch.tokens):
        with torch.no_grad():
            streams = model.capture(batch.tokens, dict.fromkeys([EMBEDDING, *splice.dictionaries, last]))
        cuts = list(_cuts(network, batch.roles[0], streams))
        features, width = sum(len(cut.latents) for cut in cuts), batch.roles.shape[1]
        total = features + len(cuts) * width + width + 1
        effects = torch.zeros(total, total, dtype=torch.float64, device=model.device)
        before: _Cut | None = None
        for place, cut in enumerate([*cuts, None]):
            entry, site = EMBEDDING if before is None else before.site, last if cut is None else cut.site
            x = streams[entry].detach().requires_grad_()
            out = x if entry == site else model.capture(batch.tokens, [site], start=(entry, x))[site]
            shares = _shares(splice, before, place - 1, streams[entry][0], batch.replaced[0], features, len(cuts))
            if cut is None:
                stream = gathered(out, batch.answer_position)
                metric = spliced_metric(network, FrozenSplice(network, batch, {}, {}, ()).outputs(stream), rows)
                targets = {total - 1: metric.sum()}
            else:
                live = splice.dictionaries[cut.site].encode_dense(out[0], cut.latents)
                targets = {
                    cut.first + place: live[position, place] for place, position in enumerate(cut.positions.tolist())
                }
            for target, value in targets.items():
                (slope,) = torch.autograd.grad(value, x, retain_graph=True)
                for column, position, share in shares:
                    effects[target].index_add_(0, column, (share * slope[0][position]).sum(dim=1).double())
            before = cut
    kinds = torch.arange(total, device=model.device)
    errors = (kinds >= features) & (kinds < features + len(cuts) * width)
    tokens = (kinds >= features + len(cuts) * width) & (kinds < total - 1)
    return EffectGraph(effects, features, errors, tokens, (kinds == total - 1).double())


def _cuts(network: Splice, roles: Int[Tensor, "pos"], streams: dict[Site, Tensor]) -> Iterator[_Cut]:
    """The circuit's active latents at each site, at each token of their roles."""
    nodes, first = network.nodes, 0
    for index, (site, dictionary) in enumerate(network.dictionaries.items()):
        here = nodes.site == index
        node, position = torch.nonzero(nodes.role[here][:, None] == roles[None, :], as_tuple=True)
        latents = nodes.latent[here][node]
        with torch.no_grad():
            values = dictionary.encode_dense(streams[site][0], latents)[position, torch.arange(len(latents))]
        active = values > 0
        yield _Cut(site, latents[active], position[active], values[active], first)
        first += int(active.sum())


def _shares(
    splice: Splice,
    cut: _Cut | None,
    index: int,
    x: Float[Tensor, "pos d"],
    replaced: Bool[Tensor, "pos"],
    features: int,
    cuts: int,
) -> list[tuple[Int[Tensor, "share"], Int[Tensor, "share"], Float[Tensor, "share d"]]]:
    """Sources at a cut (None: the embedding), as nodes of the graph, their tokens and their shares of the stream."""
    width = len(x)
    positions = torch.arange(width, device=x.device)
    tokens = features + cuts * width + positions
    if cut is None:
        return [(tokens, positions, x)]
    written = cut.values[:, None] * splice.dictionaries[cut.site].W_dec[cut.latents]
    rest = x.index_add(0, cut.positions, -written.to(x))
    nodes = torch.where(replaced, features + index * width + positions, tokens)
    own = cut.first + torch.arange(len(cut.latents), device=x.device)
    return [(own, cut.positions, written.to(x)), (nodes, positions, rest)]
