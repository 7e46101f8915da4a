"""Cards of features against a double loop over tokens and latents."""

import json
import math
from itertools import pairwise

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import UsageError
from gossamer.features import (
    Feature,
    FeatureCard,
    feature_cards,
    logit_lens,
    neuronpedia_link,
    neuronpedia_set,
    top_examples,
)
from gossamer.features.examples import ExampleSettings
from gossamer.model import LanguageModel, Site
from gossamer.tokens import Tokens

TEXTS = [
    " Mary went to the store",
    " John and Mary went",
    " the store",
    " Then John gave a drink to Mary and John",
    " a boy and a girl met at the park",
    " authors near the park like the book",
]
SITES = (Site("resid_post", 0), Site("z", 1), Site("resid_post", 2))


def dictionary(site, seed, architecture="relu", **facts):
    generator = torch.Generator().manual_seed(seed)
    k = 6 if architecture == "topk" else None
    made = Dictionary(DictionaryConfig(architecture, 32, 40, site=site, k=k), **facts)
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return made.requires_grad_(False)


@pytest.fixture
def dictionaries():
    made = [dictionary(SITES[0], 0), dictionary(SITES[1], 1), dictionary(SITES[2], 2, "topk")]
    return dict(zip(SITES, made, strict=True))


@pytest.fixture
def tokens(tiny_gpt2):
    return tiny_gpt2.tokenize(TEXTS, bos=True)


@pytest.fixture
def features():
    return [Feature(site, latent) for site in SITES for latent in (3, 0, 17, 39)]


def by_token(model, dictionaries, tokens, feature):
    """(activation, row, position) at every token but BOS and padding, in a plain loop over rows alone."""
    found = []
    for row in range(len(tokens)):
        length = int(tokens.mask[row].sum())
        one = Tokens.full(tokens.ids[row : row + 1, :length])
        x = model.capture(one, [feature.site])[feature.site]
        values = dictionaries[feature.site].encode_dense(x)[0, :, feature.latent]
        found += [(float(values[position]), row, position) for position in range(1, length)]
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_numbers_are_those_of_a_double_loop(tiny_gpt2, dictionaries, tokens, features, batch_size):
    cards = feature_cards(tiny_gpt2, dictionaries, features, tokens, batch_size=batch_size)
    assert list(cards) == sorted(features, key=lambda one: (one.site, features.index(one)))
    for feature, card in cards.items():
        seen = [value for value, _, _ in by_token(tiny_gpt2, dictionaries, tokens, feature)]
        active = torch.tensor([value for value in seen if value > 1e-7], dtype=torch.float64)
        assert (card.tokens, card.active) == (len(seen), len(active))
        assert card.density == len(active) / len(seen)
        if len(active):
            assert card.mean == pytest.approx(active.mean().item(), rel=1e-5)
            assert card.std == pytest.approx(active.std(correction=0).item(), rel=1e-3, abs=1e-5)
            assert card.maximum == pytest.approx(active.max().item(), rel=1e-5)
        edges, counts = card.histogram.edges, card.histogram.counts
        inside = [int(((active >= low) & (active < high)).sum()) for low, high in pairwise(edges)]
        assert sum(counts) == len(active)
        assert list(counts) == inside
    assert any(card.active for card in cards.values())


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_strongest_examples_are_one_a_document_with_every_activation(
    tiny_gpt2, dictionaries, tokens, features, batch_size
):
    settings = ExampleSettings(k=4, window=(2, 1))
    found = top_examples(tiny_gpt2, dictionaries, features, tokens, settings=settings, batch_size=batch_size)
    for feature, examples in found.items():
        seen = by_token(tiny_gpt2, dictionaries, tokens, feature)
        best = {row: max((v, -p) for v, r, p in seen if r == row) for row in range(len(tokens))}
        expected = sorted(((v, row, -p) for row, (v, p) in best.items() if v > 1e-7), reverse=True)[:4]
        assert [one.document for one in examples] == [row for _, row, _ in expected]
        for one, (value, row, position) in zip(examples, expected, strict=True):
            assert one.activation == pytest.approx(value, rel=1e-4)
            length = int(tokens.mask[row].sum())
            first, last = max(position - 2, 0), min(position + 2, length)
            assert one.tokens == tuple(tiny_gpt2.word(int(i)) for i in tokens.ids[row, first:last])
            assert one.position == position - first
            around = {p: v for v, r, p in seen if r == row}
            for offset, activation in enumerate(one.activations):
                if first + offset:
                    assert activation == pytest.approx(around[first + offset], rel=1e-4, abs=1e-6)


def test_whole_rows_are_shown_where_no_window_is_given(tiny_gpt2, dictionaries, tokens, features):
    settings = ExampleSettings(k=2, window=None)
    for examples in top_examples(tiny_gpt2, dictionaries, features, tokens, settings=settings).values():
        for one in examples:
            assert len(one.tokens) == int(tokens.mask[one.document].sum())
            assert one.activation == max(one.activations[1:])


def test_strata_are_quantile_groups_of_all_activations_the_same_in_any_batches(tiny_gpt2, dictionaries, tokens):
    feature = Feature(SITES[0], 3)
    settings = ExampleSettings(k=1, strata=3, per_stratum=2, sample=64)
    runs = [
        top_examples(tiny_gpt2, dictionaries, [feature], tokens, settings=settings, batch_size=size)[feature]
        for size in (2, 16)
    ]
    assert [(one.document, one.position, one.stratum) for one in runs[0]] == [
        (one.document, one.position, one.stratum) for one in runs[1]
    ]
    drawn = [one for one in runs[0] if one.stratum is not None]
    assert [one.stratum for one in drawn] == [0, 0, 1, 1, 2, 2]
    # The sample holds every active token here, so that the groups are the thirds of all activations.
    active = sorted(v for v, _, _ in by_token(tiny_gpt2, dictionaries, tokens, feature) if v > 1e-7)
    groups = [group.tolist() for group in torch.tensor_split(torch.tensor(active), 3)]
    for one in drawn:
        assert any(one.activation == pytest.approx(value, rel=1e-4) for value in groups[one.stratum])


def test_texts_and_tasks_are_read_as_they_are(tiny_gpt2, dictionaries, tokens):
    feature = Feature(SITES[0], 3)
    texts = feature_cards(tiny_gpt2, dictionaries, [feature], TEXTS)[feature]
    rows = feature_cards(tiny_gpt2, dictionaries, [feature], tiny_gpt2.tokenize(TEXTS))[feature]
    assert texts == rows


def test_a_card_goes_to_json_and_back_and_shows_itself(tiny_gpt2, dictionaries, tokens, features):
    settings = ExampleSettings(k=2, strata=2, per_stratum=1, sample=8)
    for card in feature_cards(tiny_gpt2, dictionaries, features, tokens, settings=settings).values():
        assert FeatureCard.from_json(json.loads(json.dumps(card.to_json(), allow_nan=False))) == card
        assert "\n" not in repr(card)
        assert len(repr(card)) < 200
        page = card._repr_html_()
        assert str(card.feature) in page
        assert "<script" not in page


def test_markup_in_a_text_does_not_become_markup_of_the_page(tiny_gpt2, dictionaries, tokens, features):
    card = next(iter(feature_cards(tiny_gpt2, dictionaries, features, tokens).values()))
    hostile = FeatureCard.from_json(
        {**card.to_json(), "explanation": "<script>alert(1)</script>", "link": 'https://"><i>'}
    )
    assert "<script" not in hostile._repr_html_()
    assert '"><i>' not in hostile._repr_html_()
    script = FeatureCard.from_json({**card.to_json(), "link": "javascript:alert(1)"})
    assert "javascript" not in script._repr_html_()


def test_lens_words_are_those_of_the_row_alone(tiny_gpt2, dictionaries):
    site = SITES[2]
    rows = dictionaries[site].W_dec[[3, 17]]
    for row, found in zip(rows, logit_lens(tiny_gpt2, dictionaries[site], [3, 17], words=5), strict=True):
        norm, head = tiny_gpt2.hf.transformer.ln_f, tiny_gpt2.hf.lm_head
        change = (head(norm(row)) - head(norm(torch.zeros_like(row)))).double()
        change -= change.mean()
        order = change.argsort(descending=True)
        assert [word for word, _ in found.promotes] == [tiny_gpt2.word(int(i)) for i in order[:5]]
        assert [word for word, _ in found.suppresses] == [tiny_gpt2.word(int(i)) for i in order.flip(0)[:5]]
        assert [value for _, value in found.promotes] == pytest.approx(change[order[:5]].tolist(), rel=1e-4)
        assert [value for _, value in found.suppresses] == pytest.approx(change[order.flip(0)[:5]].tolist(), rel=1e-4)


def test_words_of_z_are_those_of_what_the_heads_write(tiny_gpt2, dictionaries, tokens):
    row = dictionaries[SITES[1]].W_dec[3] @ tiny_gpt2.hf.transformer.h[1].attn.c_proj.weight
    norm, head = tiny_gpt2.hf.transformer.ln_f, tiny_gpt2.hf.lm_head
    change = (head(norm(row)) - head(norm(torch.zeros_like(row)))).double()
    change -= change.mean()
    card = feature_cards(tiny_gpt2, dictionaries, [Feature(SITES[1], 3)], tokens)[Feature(SITES[1], 3)]
    order = change.argsort(descending=True)[:8].tolist()
    assert [word for word, _ in card.promotes] == [tiny_gpt2.word(one) for one in order]
    assert [value for _, value in card.promotes] == pytest.approx(change[order].tolist(), rel=1e-4)


def test_words_of_z_go_through_a_norm_after_attention(tokenizer):
    """Gemma 2 norms what attention adds: the module itself, run on a row, gives the row's direction."""
    torch.manual_seed(0)
    facts = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.3}
    hf = Gemma2ForCausalLM(Gemma2Config(vocab_size=len(tokenizer), pad_token_id=None, **facts, **heads)).eval()
    layer = hf.model.layers[1]
    layer.post_attention_layernorm.weight.data.normal_()
    model, made = LanguageModel.load(hf, tokenizer=tokenizer), dictionary(Site("z", 1), 0)
    with torch.no_grad():
        rows = layer.post_attention_layernorm(layer.self_attn.o_proj(made.W_dec[:3]))
        change = (model.unembed(rows) - model.unembed(torch.zeros_like(rows[:1]))).double()
    expected = [[model.word(one) for one in row] for row in change.topk(4, dim=1).indices.tolist()]
    found = logit_lens(model, made, range(3), words=4)
    assert [[word for word, _ in one.promotes] for one in found] == expected


def test_what_the_head_cannot_read_has_no_words(tiny_gpt2, tokens):
    site = Site("attn_in", 1)
    made = dictionary(site, 0)
    card = feature_cards(tiny_gpt2, {site: made}, [Feature(site, 3)], tokens)[Feature(site, 3)]
    assert (card.promotes, card.suppresses) == ((), ())
    assert card.words()
    with pytest.raises(UsageError, match=r"writes to the residual stream or z expected, found attn_in\.1"):
        logit_lens(tiny_gpt2, made, [3])


def test_links_are_found_where_libraries_put_them():
    name = "gemma-2-2b/12-gemmascope-res-16k"
    for facts in (
        {"neuronpedia_id": name},
        {"training": {"neuronpedia_id": name}},
        {"a": {"metadata": {"neuronpedia_id": name}}},
    ):
        one = dictionary(SITES[0], 0, provenance=facts)
        assert neuronpedia_link(one, 7) == f"https://www.neuronpedia.org/{name}/7"
    for facts in ({}, {"neuronpedia_id": None}, {"neuronpedia_id": "javascript:alert(1)"}, {"neuronpedia_id": 3}):
        assert neuronpedia_link(dictionary(SITES[0], 0, provenance=facts), 7) is None


def test_dictionaries_of_one_set_on_neuronpedia_are_known_by_it():
    def known(*ids):
        given = zip(SITES, ids, strict=False)
        return neuronpedia_set({s: dictionary(s, 0, provenance={"training": {"neuronpedia_id": i}}) for s, i in given})

    first, second = (site.layer for site in SITES[:2])
    assert known(f"gemma-2-2b/{first}-gemmascope-res-16k") == ("gemma-2-2b", "gemmascope-res-16k")
    # Another set, another layer's: pages cannot be found by layer and latent, the model's can.
    assert known(f"m/{first}-a", f"m/{second}-b") == ("m", None)
    assert known(f"m/{first + 1}-a") == ("m", None)
    assert known(f"m/{first}-a", f"n/{second}-a") is None
    assert known(f"m/{first}-a", None) is None


def test_what_is_not_there_is_refused(tiny_gpt2, dictionaries, tokens):
    for features, message in (
        ([Feature(SITES[0], 40)], r"feature resid_post\.0/40: a latent of resid_post\.0 \(0 to 39\)"),
        ([Feature(Site("resid_post", 1), 0)], r"feature resid_post\.1/0"),
        ([], "at least one feature"),
    ):
        with pytest.raises(UsageError, match=message):
            top_examples(tiny_gpt2, dictionaries, features, tokens)
    with pytest.raises(UsageError, match="latents from 0 to 39 expected, found 40"):
        logit_lens(tiny_gpt2, dictionaries[SITES[0]], [40])
    with pytest.raises(UsageError, match="a sample of at least strata"):
        ExampleSettings(strata=100)
    with pytest.raises(UsageError, match="a window of at least 0"):
        ExampleSettings(window=(-1, 2))


def test_a_feature_that_never_fires_has_an_empty_card(tiny_gpt2, dictionaries, tokens):
    with torch.no_grad():
        dictionaries[SITES[0]].b_enc[5] = -1e4
    card = feature_cards(tiny_gpt2, dictionaries, [Feature(SITES[0], 5)], tokens)[Feature(SITES[0], 5)]
    assert (card.active, card.density, card.mean, card.maximum, card.examples) == (0, 0.0, 0.0, 0.0, ())
    assert not math.isnan(card.std)
    assert card.histogram.counts == ()


def test_sites_may_be_names(tiny_gpt2, dictionaries):
    named, wanted = {str(site): one for site, one in dictionaries.items()}, [Feature(SITES[0], 3), Feature(SITES[2], 0)]
    assert feature_cards(tiny_gpt2, named, wanted, TEXTS) == feature_cards(tiny_gpt2, dictionaries, wanted, TEXTS)
    assert top_examples(tiny_gpt2, named, wanted, TEXTS) == top_examples(tiny_gpt2, dictionaries, wanted, TEXTS)
