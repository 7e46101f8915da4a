"""What is said of single nodes, by hand."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from circuit_lab import ROLES, all_nodes, random_ablation, random_dictionary, sites_of
from tiny_splice import N_WORDS as VOCABULARY
from tiny_splice import D, tiny_model
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig

from gossamer.circuits.evaluate.cards import N_EXAMPLES, N_WORDS, node_cards
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.results import NodeCard
from gossamer.circuits.splice import Splice
from gossamer.features import Feature, FeatureCard, Histogram, Node
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import Task

SITES = sites_of("resid_post.1", "mlp_out.2")


@pytest.fixture(scope="module")
def evaluator(model: LanguageModel, task: Task) -> Evaluator:
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(SITES)}
    dictionaries[SITES[1]].provenance["neuronpedia_id"] = "tiny/2-mlp"
    splice = Splice.of(model, dictionaries, task.test, random_ablation(SITES), all_nodes(dictionaries), batch_size=3)
    return Evaluator(splice)


@pytest.fixture(scope="module")
def circuit(evaluator: Evaluator) -> Nodes:
    nodes = evaluator.splice.nodes
    return nodes.select((nodes.latent % 7 == 2) & (nodes.role != 2))


@pytest.fixture(scope="module")
def cards(evaluator: Evaluator, circuit: Nodes) -> dict[Node, NodeCard]:
    found = node_cards(evaluator, circuit, torch.linspace(-1, 1, len(circuit), dtype=torch.float64))
    return {card.node: card for card in found}


def latents_of(evaluator: Evaluator, site: Site) -> torch.Tensor:
    clean = evaluator.splice.examples.clean
    with torch.no_grad():
        x = evaluator.splice.model.capture(clean.tokens, [site])[site]
        return evaluator.splice.dictionaries[site].encode_dense(x)


def test_every_node_has_its_card_by_falling_effect(evaluator: Evaluator, circuit: Nodes) -> None:
    effects = torch.randn(len(circuit), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = node_cards(evaluator, circuit, effects)
    given = dict(zip(circuit.keys(), effects.tolist(), strict=True))
    assert {card.node: card.effect for card in found} == given
    assert [card.effect for card in found] == sorted(given.values(), reverse=True)
    assert node_cards(evaluator, circuit.none(), torch.zeros(0, dtype=torch.float64)) == ()


def test_activations_and_ablation_values_are_means_over_the_tokens_of_the_role(
    evaluator: Evaluator, cards: dict[Node, NodeCard]
) -> None:
    clean = evaluator.splice.examples.clean
    for ((site, latent), role), card in cards.items():
        values, ablated = [], []
        table = evaluator.splice.ablation.sites[site].latents
        latents = latents_of(evaluator, site)
        for row, token in torch.nonzero(clean.roles == ROLES.index(role)).tolist():
            values.append(latents[row, token, latent].item())
            ablated.append(table[clean.ablation_groups[row, token], latent].item())
        assert card.activation == pytest.approx(sum(values) / len(values), rel=1e-5)
        assert card.ablated == pytest.approx(sum(ablated) / len(ablated), rel=1e-5)


WIDE = {"hidden_size": D, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "head_dim": 8}
SMALL = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3}
CONFIGS = {
    "gpt2": lambda: GPT2Config(n_layer=3, n_embd=D, n_head=2, n_positions=16, **SMALL),
    "llama": lambda: LlamaConfig(num_key_value_heads=2, pad_token_id=None, **WIDE, **SMALL),
    "gemma2": lambda: Gemma2Config(
        num_key_value_heads=2, pad_token_id=None, final_logit_softcapping=4.0, **WIDE, **SMALL
    ),
}


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean()
    return weight * centred / (centred.pow(2).mean() + 1e-5).sqrt() + bias


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x / (x.pow(2).mean() + 1e-6).sqrt()


def logits_by_hand(family: str, hf: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Final norm and head of one family, written out in float64."""
    head = hf.lm_head.weight.detach().double()
    if family == "gpt2":
        return head @ layer_norm(x, hf.transformer.ln_f.weight.detach(), hf.transformer.ln_f.bias.detach())
    weight = hf.model.norm.weight.detach().double()
    if family == "llama":
        return head @ rms_norm(x, weight)
    return 4.0 * torch.tanh(head @ rms_norm(x, 1 + weight) / 4.0)


def family_model(family: str) -> LanguageModel:
    """A tiny random model whose final norm has weights far from one."""
    torch.manual_seed(3)
    hf = AutoModelForCausalLM.from_config(CONFIGS[family]()).double().eval()
    norm = hf.transformer.ln_f if family == "gpt2" else hf.model.norm
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.linspace(-0.7, 2.5, D))
    return LanguageModel.load(hf, tokenizer=tiny_model().tokenizer)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("normalisation", ["none", "layer_norm"])
def test_the_direct_effect_is_the_slope_of_the_logit_difference(family: str, normalisation: str, task: Task) -> None:
    model = family_model(family)
    dictionaries = {
        site: random_dictionary(site, seed=seed, normalisation=normalisation) for seed, site in enumerate(SITES)
    }
    splice = Splice.of(model, dictionaries, task.test, random_ablation(SITES), all_nodes(dictionaries), batch_size=3)
    circuit = splice.nodes.select(splice.nodes.latent % 7 == 2)
    clean, last = task.test.clean, Site.parse("resid_post.2")
    pairs = list(
        zip(clean.answer_position.tolist(), task.test.answer.tolist(), task.test.incorrect.tolist(), strict=True)
    )
    with torch.no_grad():
        streams = model.capture(clean.tokens, [*SITES, last])
    found = node_cards(Evaluator(splice), circuit, torch.zeros(len(circuit), dtype=torch.float64))
    assert {card.role for card in found if card.direct} == {"END"}
    for card in [card for card in found if card.role == "END"]:
        site = card.site
        row, table = dictionaries[site].W_dec[card.latent], splice.ablation.sites[site].latents
        slopes = []
        for prompt, (end, answer, incorrect) in enumerate(pairs):
            x = streams[site][prompt, end]
            step = (
                dictionaries[site].encode_dense(x)[card.latent] - table[clean.ablation_groups[prompt, end], card.latent]
            )
            written = step * row * (x.std() if normalisation == "layer_norm" else 1.0)
            logits = [
                logits_by_hand(family, model.hf, streams[last][prompt, end] + sign * 1e-5 * written) for sign in (1, -1)
            ]
            slopes.append(((logits[0] - logits[1])[answer] - (logits[0] - logits[1])[incorrect]).item() / 2e-5)
        assert card.direct == pytest.approx(sum(slopes) / len(slopes), rel=1e-4, abs=1e-6)


def test_sites_outside_the_stream_write_nothing_directly(model: LanguageModel, task: Task) -> None:
    (site,) = sites_of("z.1")
    dictionaries = {site: random_dictionary(site)}
    splice = Splice.of(model, dictionaries, task.test, random_ablation((site,)), all_nodes(dictionaries))
    circuit = splice.nodes.select(splice.nodes.latent == 2)
    for card in node_cards(Evaluator(splice), circuit, torch.zeros(len(circuit), dtype=torch.float64)):
        assert math.isnan(card.direct)
        # What the heads make of it can be read all the same.
        assert len(card.card.promotes) == N_WORDS


def test_words_are_the_logit_lens_of_the_decoder_row(evaluator: Evaluator, cards: dict[Node, NodeCard]) -> None:
    model = evaluator.splice.model
    norm, head = model.hf.transformer.ln_f, model.hf.lm_head.weight.detach()
    for ((site, latent), _), card in cards.items():
        row = evaluator.splice.dictionaries[site].W_dec[latent]
        centred = row - row.mean()
        lens = head @ (norm.weight.detach() * centred / (centred.pow(2).mean() + norm.eps).sqrt())
        lens = lens - lens.mean()
        order = lens.argsort(descending=True).tolist()
        assert [word for word, _ in card.card.promotes] == [f"w{token}" for token in order[:N_WORDS]]
        assert [value for _, value in card.card.promotes] == pytest.approx(lens[order[:N_WORDS]].tolist(), rel=1e-4)
        assert [word for word, _ in card.card.suppresses] == [f"w{token}" for token in order[: -N_WORDS - 1 : -1]]
        assert [value for _, value in card.card.suppresses] == pytest.approx(
            lens[order[: -N_WORDS - 1 : -1]].tolist(), rel=1e-4
        )


def test_examples_are_the_prompts_where_the_latent_fires_most(
    evaluator: Evaluator, cards: dict[Node, NodeCard]
) -> None:
    tokens = evaluator.splice.examples.clean.tokens
    for ((site, latent), _), card in cards.items():
        latents = latents_of(evaluator, site)[..., latent]
        strongest = []
        for row, length in enumerate(tokens.lengths.tolist()):
            # The prompts begin with a BOS token, which is no example.
            position = 1 + int(latents[row, 1:length].argmax())
            strongest.append((latents[row, position].item(), row, position))
        fired = sorted((entry for entry in strongest if entry[0] > 0), key=lambda entry: -entry[0])[:N_EXAMPLES]
        assert [example.activation for example in card.card.examples] == pytest.approx([entry[0] for entry in fired])
        for example, (_, row, position) in zip(card.card.examples, fired, strict=True):
            assert example.position == position
            assert example.tokens == tuple(f"w{token}" for token in tokens.ids[row, : tokens.lengths[row]].tolist())
    assert any(card.card.examples for card in cards.values())


def test_a_latent_that_never_fires_has_no_examples(model: LanguageModel, task: Task) -> None:
    dictionary = random_dictionary(SITES[0])
    dictionary.b_enc.data[4] = -1e6
    splice = Splice.of(
        model, {SITES[0]: dictionary}, task.test, random_ablation(SITES[:1]), all_nodes({SITES[0]: dictionary})
    )
    circuit = splice.nodes.select(splice.nodes.latent == 4)
    for card in node_cards(Evaluator(splice), circuit, torch.zeros(len(circuit), dtype=torch.float64)):
        assert card.card.examples == ()
        assert card.activation == 0.0


def test_links_and_generic_latents_are_passed_on(evaluator: Evaluator, circuit: Nodes) -> None:
    shared = Feature.parse("mlp_out.2/9")
    generic = {shared: ("code", "ioi")}
    found = node_cards(evaluator, circuit, torch.zeros(len(circuit), dtype=torch.float64), generic)
    for card in found:
        expected = f"https://www.neuronpedia.org/tiny/2-mlp/{card.latent}" if card.site == shared.site else None
        assert card.card.link == expected
        assert card.generic == (("code", "ioi") if card.node.feature == shared else ())
    assert any(card.generic for card in found)


def test_batches_and_padding_do_not_matter(evaluator: Evaluator, circuit: Nodes, task: Task) -> None:
    effects = torch.zeros(len(circuit), dtype=torch.float64)
    expected = node_cards(evaluator, circuit, effects)
    splice = evaluator.splice
    alone = Splice.of(splice.model, splice.dictionaries, task.test, splice.ablation, splice.nodes, batch_size=1)
    for one, other in zip(node_cards(Evaluator(alone), circuit, effects), expected, strict=True):
        assert one.node == other.node
        assert one.activation == pytest.approx(other.activation, rel=1e-6)
        assert one.ablated == pytest.approx(other.ablated, rel=1e-6)
        assert one.direct == pytest.approx(other.direct, rel=1e-5, abs=1e-9)
        assert [example.position for example in one.card.examples] == [
            example.position for example in other.card.examples
        ]


def test_cards_may_come_from_elsewhere(evaluator: Evaluator, circuit: Nodes, cards: dict[Node, NodeCard]) -> None:
    class Source:
        text = "another text"

        def cards(self, features: Iterable[Feature]) -> dict[Feature, FeatureCard]:
            return {one: FeatureCard(one, "m", 9, 1, 1.0, 0.0, 1.0, Histogram((), ())) for one in features}

    effects = torch.linspace(-1, 1, len(circuit), dtype=torch.float64)
    for found in node_cards(evaluator, circuit, effects, source=Source()):
        assert found.card == Source().cards([found.node.feature])[found.node.feature]
        assert replace(found, card=cards[found.node].card) == cards[found.node]
