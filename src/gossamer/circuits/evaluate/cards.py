"""What can be said of each node: where it fires, what it writes, what it is worth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from gossamer.batching import in_batches
from gossamer.circuits.evaluate.bench import Bench
from gossamer.circuits.nodes import Nodes, SiteNodes
from gossamer.circuits.outcome import logit_difference
from gossamer.circuits.results import Example, NodeCard
from gossamer.circuits.splice import Splice, frozen
from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tokens import Tokens

N_WORDS = 8
N_EXAMPLES = 5
# Sites whose vectors are, or are added to, the residual stream: a decoder row there can be read by the head.

Words = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class _Fired:
    """One site's circuit latents on every prompt of the bench, and what one unit is in the stream at the answer."""

    values: Float[Tensor, "prompt pos column"]
    changes: Float[Tensor, "prompt pos column"]
    scale: Float[Tensor, "prompt 1"]


def node_cards(
    bench: Bench,
    circuit: Nodes,
    effects: Float[Tensor, "node"],
    generic: Mapping[tuple[str, int], tuple[str, ...]] | None = None,
) -> tuple[NodeCard, ...]:
    """One card a node, by falling effect.

    Activations are the latents of the model's own stream on the bench's clean prompts: mean over the tokens of the
    node's role, against the ablation value there. `direct` is what the latent adds to the logit difference at the
    answer position by itself, to first order and in logits: (latent - ablation value) times its decoder row times the
    gradient of the logit difference by the prompt's final stream (:func:`final_gradient`); zero at roles that do not
    hold the answer position, NaN at sites that do not write to the stream (z), where there are no words either.
    Memory: prompts x positions x distinct latents of the circuit, twice.
    """
    splice = bench.splice.over(circuit)
    gradient, fired = final_gradient(splice), _fired(splice)
    cards: list[NodeCard] = []
    for index, site in enumerate(circuit.sites):
        here = circuit.at(index)
        if len(here.columns):
            cards += _site_cards(splice, site, here, effects, fired[site], gradient, generic or {})
    return tuple(sorted(cards, key=lambda card: -card.effect))


def _site_cards(
    splice: Splice,
    site: Site,
    here: SiteNodes,
    effects: Float[Tensor, "node"],
    fired: _Fired,
    gradient: Float[Tensor, "prompt d"],
    generic: Mapping[tuple[str, int], tuple[str, ...]],
) -> list[NodeCard]:
    dictionary = splice.dictionaries[site]
    written = _written(splice, site, here.columns, fired, gradient)
    roles, end = splice.examples.clean.roles, splice.examples.clean.end
    answer_role = roles.gather(1, end[:, None]).squeeze(1)
    cards = []
    for where, role, column in zip(here.where.tolist(), here.role.tolist(), here.column.tolist(), strict=True):
        tokens = roles == role
        latent = int(here.columns[column])
        activation = _mean(fired.values[..., column][tokens])
        promotes, suppresses = _words(splice.model, site, dictionary.W_dec[latent])
        cards.append(
            NodeCard(
                site=str(site),
                role=splice.nodes.roles[role],
                latent=latent,
                effect=effects[where].item(),
                activation=activation,
                ablated=activation - _mean(fired.changes[..., column][tokens]),
                direct=_mean(written[:, column] * (answer_role == role)),
                promotes=promotes,
                suppresses=suppresses,
                examples=_examples(splice.model, splice.examples.clean.tokens, fired.values[..., column]),
                generic=generic.get((str(site), latent), ()),
                link=_link(dictionary, latent),
            )
        )
    return cards


def _mean(values: Tensor) -> float:
    # On the CPU, because not every device has float64.
    return values.cpu().double().mean().item() if values.numel() else 0.0


def final_gradient(splice: Splice) -> Float[Tensor, "prompt d"]:
    """Gradient of each prompt's logit difference by the model's own final stream at the answer position.

    It goes through the model's own final norm, head and cap on logits, so that it holds for every family: the norm's
    weight (Gemma: 1 + weight), its centring and its scale at that stream are all in it.
    """
    model, examples = splice.model, splice.examples
    last = model.sites("resid_post")[-1]

    def part(rows: slice) -> Tensor:
        batch = splice.batch(rows)
        with torch.no_grad():
            stream = model.capture(batch.tokens, [last])[last]
        leaf = stream[torch.arange(len(stream), device=stream.device), batch.end].requires_grad_()
        with torch.enable_grad(), frozen(model.hf):
            difference = logit_difference(model.unembed(leaf), examples.answer[rows], examples.wrong[rows])
        return torch.autograd.grad(difference.sum(), leaf)[0]

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
            ends = streams[site][torch.arange(len(batch.end), device=values.device), batch.end]
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
    """What each latent's change at the answer position adds to the logit difference directly."""
    if not site.facts.in_stream:
        return gradient.new_full((len(gradient), len(columns)), math.nan)
    at_end = fired.changes[torch.arange(len(gradient), device=gradient.device), splice.examples.clean.end]
    with torch.no_grad():
        towards = gradient.float() @ splice.dictionaries[site].W_dec[columns].float().T
        return at_end.float() * fired.scale.float() * towards


def _words(model: LanguageModel, site: Site, row: Float[Tensor, "d"]) -> tuple[Words, Words]:
    """Logit-lens words of a decoder row: what it raises and lowers most, against what the lens says of nothing."""
    if not site.facts.in_stream:
        return (), ()
    with torch.no_grad():
        lens = model.unembed(torch.stack([row.to(model.dtype), torch.zeros_like(row, dtype=model.dtype)])).float()
    change = lens[0] - lens[1]
    change = change - change.mean()
    up, down = change.topk(N_WORDS), (-change).topk(N_WORDS)
    raised = tuple((model.word(int(i)), float(v)) for v, i in zip(up.values, up.indices, strict=True))
    lowered = tuple((model.word(int(i)), -float(v)) for v, i in zip(down.values, down.indices, strict=True))
    return raised, lowered


def _examples(model: LanguageModel, tokens: Tokens, values: Float[Tensor, "prompt pos"]) -> tuple[Example, ...]:
    """The strongest firing of each of the prompts where the latent fires most."""
    strongest = torch.where(tokens.mask, values, 0.0).max(dim=1)
    found: list[Example] = []
    for prompt in torch.argsort(strongest.values, descending=True, stable=True)[:N_EXAMPLES].tolist():
        if strongest.values[prompt] > 0:
            words = tuple(model.word(int(i)) for i in tokens.ids[prompt][tokens.mask[prompt]])
            found.append(Example(words, int(strongest.indices[prompt]), float(strongest.values[prompt])))
    return tuple(found)


def _link(dictionary: Dictionary, latent: int) -> str | None:
    name = dictionary.provenance.get("neuronpedia_id")
    return f"https://www.neuronpedia.org/{name}/{latent}" if isinstance(name, str) and name else None
