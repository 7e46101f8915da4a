"""A network of which the circuit is known: three latents write the answer, the rest writes beside it."""

from dataclasses import dataclass, replace

import torch
from circuit_lab import N_SLOTS, able_examples, all_nodes, node_at
from tiny_splice import D

from gossamer.circuits.ablation import Ablation, SiteAblation
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.features import Node
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt_pairs import PromptPairs

SITE = Site.parse("resid_post.2")
ANSWER, WRONG, N_PROMPTS, N_LATENTS = 7, 8, 12, 24
# 3 and 9 raise the answer in every prompt. 14 raises it in every second prompt and lowers it in the others, so that its
# effect averages to nothing. 11 is 9 once more.
STEADY, CHANGING, TWIN = (3, 9), 14, 11


@dataclass(frozen=True)
class Planted:
    """The network with masks over all nodes but the twin's, its reference (no twin either), and the circuit."""

    splice: Splice
    full: FullModel
    everything: Nodes
    keys: frozenset[Node]

    def found(self, circuit: torch.Tensor) -> set[Node]:
        return set(self.splice.nodes.select(circuit).keys())


def planted(model: LanguageModel) -> Planted:
    """Twelve prompts with one answer; the dictionary is at the last site, where the logits are read."""
    examples = able_examples(model, N_PROMPTS, seed=5)
    examples = replace(
        examples, answer=torch.full_like(examples.answer, ANSWER), incorrect=torch.full_like(examples.incorrect, WRONG)
    )
    dictionaries = {SITE: _dictionary(model, examples)}
    middle = torch.zeros(N_SLOTS, N_LATENTS, dtype=torch.float64)
    middle[:, CHANGING] = 2.0
    ablation = Ablation("mean", "drop", {SITE: SiteAblation(middle, None)})
    everything = all_nodes(dictionaries)
    nodes = everything.select(everything.latent != TWIN)
    splice = Splice.of(model, dictionaries, examples, ablation, nodes, batch_size=8)
    full = FullModel.measure(lambda rows: splice.outputs(torch.ones(len(nodes)), rows), examples)
    keys = frozenset(node_at(SITE, "END", latent) for latent in (*STEADY, CHANGING))
    return Planted(splice, full, everything, keys)


def _dictionary(model: LanguageModel, examples: PromptPairs) -> Dictionary:
    generator = torch.Generator().manual_seed(6)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    answer = _direction(model)
    beside = random(N_LATENTS, D)
    beside = beside - beside.mean(dim=1, keepdim=True)
    beside = beside - (beside @ answer)[:, None] * answer
    rows, columns, bias = 0.02 * beside, 0.02 * random(D, N_LATENTS), torch.ones(N_LATENTS, dtype=torch.float64)
    rows[list(STEADY)] += 0.3 * answer
    rows[CHANGING] += 0.3 * answer
    columns[:, CHANGING], bias[CHANGING] = _alternating(model, examples), 2.0
    columns[:, TWIN], rows[TWIN] = columns[:, STEADY[1]], rows[STEADY[1]]
    dictionary = Dictionary(DictionaryConfig("relu", D, N_LATENTS, site=SITE), dtype=torch.float64)
    dictionary.W_enc.data, dictionary.W_dec.data = columns, rows
    dictionary.b_enc.data, dictionary.b_dec.data = bias, 4 * beside[0]
    return dictionary.requires_grad_(False)


def _direction(model: LanguageModel) -> torch.Tensor:
    """The direction that raises the answer over the wrong answer, as far as the final norm leaves it."""
    with torch.no_grad():
        heads = model.unembedding_rows(torch.tensor([ANSWER, WRONG]))
        direction = (heads[0] - heads[1]) * model.hf.transformer.ln_f.weight
    direction = direction - direction.mean()
    return direction / direction.norm()


def _alternating(model: LanguageModel, examples: PromptPairs) -> torch.Tensor:
    """A direction along which the last tokens' streams stand at 1 and -1 in turn."""
    rows = torch.arange(len(examples))
    with torch.no_grad():
        ends = model.capture(examples.clean.tokens, [SITE])[SITE][rows, examples.clean.answer_position]
    return torch.linalg.lstsq(ends, (1.0 - 2.0 * (rows % 2)).to(ends.dtype)[:, None], driver="gelsd").solution[:, 0]
