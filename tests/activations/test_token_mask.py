"""Which tokens count: by what they are, where they stand and how loud they are."""

import json
from dataclasses import replace

import pytest
import torch
from word_model import tiny_gpt2_model, word_tokenizer

from gossamer.activations import REAL_TOKENS, LoudTokens, TokenMask, counted_tokens
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.model import LanguageModel, Site
from gossamer.results.values import from_json, to_json
from gossamer.tokens import Tokens

SITE = Site("resid_post", 1)
PADDED = Tokens(
    torch.tensor([[0, 5, 6, 7], [9, 9, 5, 6], [5, 0, 9, 9]]),
    torch.tensor([[True, True, True, True], [False, False, True, True], [True, True, False, False]]),
)


def _found(model, tokens=PADDED, **policy):
    return TokenMask(**policy).counted(model, tokens).int().tolist()


def test_by_default_neither_padding_nor_bos_counts(tiny_gpt2):
    expected = [[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 0]]
    assert _found(tiny_gpt2) == counted_tokens(tiny_gpt2, PADDED).int().tolist() == expected
    assert _found(tiny_gpt2, bos=True) == PADDED.mask.int().tolist()
    assert torch.equal(REAL_TOKENS.counted(tiny_gpt2, PADDED), PADDED.mask)


def test_a_model_without_a_tokenizer_has_no_bos(tiny_gpt2):
    bare = LanguageModel(tiny_gpt2.hf, None, tiny_gpt2.name, tiny_gpt2.family)
    assert _found(bare) == _found(bare, special=False) == PADDED.mask.int().tolist()


def test_special_tokens_are_left_out_whatever_makes_them_special():
    """Marks of a chat are added as special tokens; a user's own word that is added is none."""
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "Mary", "additional_special_tokens": ["John"]})
    tokenizer.add_tokens("Tom")
    mary, john, tom = tokenizer.convert_tokens_to_ids(["Mary", "John", "Tom"])
    model = LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)
    tokens = Tokens.full(torch.tensor([[0, mary, john, tom, 12]]))
    assert _found(model, tokens) == [[0, 1, 1, 1, 1]]
    assert _found(model, tokens, special=False) == [[0, 0, 0, 1, 1]]
    assert _found(model, tokens, special=False, bos=True) == [[1, 0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ((1, None), [[0, 1, 1, 1], [0, 0, 0, 1], [0, 1, 0, 0]]),
        ((None, -1), [[1, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]]),
        ((0, 3, 2), [[1, 0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]]),
        ((7, 9), [[0] * 4] * 3),
    ],
)
def test_positions_are_those_of_real_tokens_on_either_side_of_padding(tiny_gpt2, positions, expected):
    assert _found(tiny_gpt2, bos=True, positions=positions) == expected


@pytest.mark.parametrize("positions", [(), (0, 4, 0), (0, 1, 1, 1)])
def test_what_is_no_slice_is_refused(positions):
    with pytest.raises(UsageError, match="arguments of a slice expected"):
        TokenMask(positions=positions)


def test_a_mask_is_one_of_the_settings_that_records_hold():
    mask = TokenMask(special=False, positions=(1, None), loud=LoudTokens(SITE, 5.0))
    assert from_json(json.loads(json.dumps(to_json(mask))), TokenMask) == mask
    assert {mask: 1}[replace(mask)] == 1


@pytest.fixture
def shouting(tokenizer):
    """A model in which the word 7 has an embedding of great norm, wherever it stands."""
    hf = tiny_gpt2_model(tokenizer)
    with torch.no_grad():
        hf.transformer.wte.weight[7] *= 100
    return LanguageModel.load(hf, tokenizer=tokenizer)


def test_loud_tokens_are_held_against_the_median_of_all_that_count(shouting):
    draw = torch.Generator().manual_seed(0)
    tokens = Tokens.full(torch.randint(1, 30, (50, 6), generator=draw))
    norms = shouting.capture(tokens, [SITE])[SITE].norm(dim=-1)
    found = TokenMask(loud=LoudTokens(SITE, 5.0)).counted(shouting, tokens)
    assert torch.equal(found, norms <= 5 * norms.median())
    assert torch.equal(found, tokens.ids != 7)
    assert 0 < int((~found).sum()) < 50


def test_tokens_that_do_not_count_move_no_median(shouting):
    """Two of three tokens are loud, and are BOS: among those that count none stands out."""
    shouting.tokenizer.bos_token = shouting.tokenizer.convert_ids_to_tokens(7)
    try:
        tokens = Tokens.full(torch.tensor([[7, 7, 12], [7, 7, 14]]))
        assert _found(shouting, tokens, loud=LoudTokens(SITE, 2.0)) == [[0, 0, 1], [0, 0, 1]]
        assert _found(shouting, tokens, bos=True, loud=LoudTokens(SITE, 2.0)) == [[1, 1, 1], [1, 1, 1]]
        assert _found(shouting, Tokens.full(torch.tensor([[7]])), loud=LoudTokens(SITE)) == [[0]]
    finally:
        shouting.tokenizer.bos_token = "<|endoftext|>"


def test_loudness_that_is_no_number_is_named(tiny_gpt2):
    with (
        tiny_gpt2.edit({SITE: lambda x: x * float("nan")}),
        pytest.raises(NotFiniteError, match=r"activations at resid_post\.1"),
    ):
        _found(tiny_gpt2, loud=LoudTokens(SITE))
    with pytest.raises(UsageError, match=r"ratio above 1 .* found 0\.5"):
        LoudTokens(SITE, 0.5)


def test_chosen_ids_do_not_count(tiny_gpt2):
    assert _found(tiny_gpt2, ids=(5, 7)) == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_a_mask_is_its_facts_and_the_default_has_none():
    assert TokenMask().facts == {}
    mask = TokenMask(special=False, ids=(3,), positions=(1, None), loud=LoudTokens(SITE, 8.0))
    facts = json.loads(json.dumps(mask.facts))
    assert set(facts) == {"special", "ids", "positions", "loud"}
    assert TokenMask.from_facts(facts, "here") == mask
    for damaged in ({"special": 3}, {"positions": []}, {"louder": 2}, []):
        with pytest.raises(GossamerError, match=r"^here: expected a mask of tokens"):
            TokenMask.from_facts(damaged, "here")
