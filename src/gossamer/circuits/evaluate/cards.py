"""What can be said of each node: where it fires, what it writes, what it is worth."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from gossamer.circuits.evaluate.bench import Bench
from gossamer.circuits.nodes import Nodes, SiteNodes
from gossamer.circuits.results import Example, NodeCard
from gossamer.circuits.splice import Splice
from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens

N_WORDS = 8
N_EXAMPLES = 5

Words = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class _Fired:
    """One site's circuit latents on every prompt of the bench."""

    values: Float[Tensor, "prompt pos column"]
    changes: Float[Tensor, "prompt pos column"]


def node_cards(
    bench: Bench,
    circuit: Nodes,
    effects: Float[Tensor, "node"],
    generic: Mapping[tuple[str, int], tuple[str, ...]] | None = None,
) -> tuple[NodeCard, ...]:
    """One card a node, by falling effect.

    Activations are the latents of the model's own stream on the bench's clean prompts: mean over the tokens of the
    node's role, against the ablation value there. `direct` is the part of the logit difference that the latent writes
    at the answer position by itself: (latent - ablation value) times decoder row times (answer - wrong) unembedding,
    before the final norm's scale; zero at roles that do not hold the answer position.
    Memory: prompts x positions x distinct latents of the circuit, twice.
    """
    splice = bench.splice.over(circuit)
    cards: list[NodeCard] = []
    for index in range(len(circuit.sites)):
        here = circuit.at(index)
        if len(here.columns):
            cards += _site_cards(splice, index, here, effects, generic or {})
    return tuple(sorted(cards, key=lambda card: -card.effect))


def _site_cards(
    splice: Splice,
    index: int,
    here: SiteNodes,
    effects: Float[Tensor, "node"],
    generic: Mapping[tuple[str, int], tuple[str, ...]],
) -> list[NodeCard]:
    site = splice.nodes.sites[index]
    dictionary, fired = splice.dictionaries[site], _fired(splice, index)
    written = _written(splice, dictionary, here.columns, fired.changes)
    roles, end = splice.examples.clean.roles, splice.examples.clean.end
    answer_role = roles.gather(1, end[:, None]).squeeze(1)
    cards = []
    for where, role, column in zip(here.where.tolist(), here.role.tolist(), here.column.tolist(), strict=True):
        tokens = roles == role
        latent = int(here.columns[column])
        activation = _mean(fired.values[..., column][tokens])
        promotes, suppresses = _words(splice.model, dictionary.W_dec[latent])
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
    return values.double().mean().item() if values.numel() else 0.0


def _fired(splice: Splice, index: int) -> _Fired:
    site, width = splice.nodes.sites[index], splice.examples.clean.roles.shape[1]
    parts: list[_Fired] = []
    for start in range(0, len(splice.examples), splice.batch_size):
        rows = slice(start, min(start + splice.batch_size, len(splice.examples)))
        values, changes = splice.latents(rows)[site]
        missing = (0, 0, 0, width - values.shape[1])
        parts.append(_Fired(pad(values, missing), pad(changes, missing)))
    return _Fired(torch.cat([part.values for part in parts]), torch.cat([part.changes for part in parts]))


def _written(splice: Splice, dictionary: Dictionary, columns: Int[Tensor, "column"], changes: Tensor) -> Tensor:
    """What each latent's change at the answer position adds to the logit difference directly, (prompt, column)."""
    examples = splice.examples
    direction = splice.model.unembedding_rows(examples.answer) - splice.model.unembedding_rows(examples.wrong)
    at_end = changes[torch.arange(len(examples), device=changes.device), examples.clean.end]
    with torch.no_grad():
        return at_end.float() * (direction.float() @ dictionary.W_dec[columns].float().T)


def _words(model: LanguageModel, row: Float[Tensor, "d"]) -> tuple[Words, Words]:
    """Logit-lens words of a decoder row: what it raises and lowers most, against what the lens says of nothing."""
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
