"""Attention sinks at first tokens: found by what they are, and left out of training and measuring."""

import copy
from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts
from word_model import tiny_gpt2_model

from gossamer.activations.attention_sink import first_token_is_sink
from gossamer.activations.corpus import Corpus, split_texts
from gossamer.activations.token_mask import counted_tokens
from gossamer.dictionary.attach import measure
from gossamer.model import LanguageModel, Site
from gossamer.replacement.evaluate import evaluate
from gossamer.tokens import Tokens
from gossamer.training.buffer import OnTheFly
from gossamer.training.fit import fit

SITE = Site("resid_post", 1)


@pytest.fixture
def sinking(tokenizer):
    """A model whose first position is loud, whatever stands there, as GPT-2's; its rows begin with words."""
    hf = tiny_gpt2_model(tokenizer)
    with torch.no_grad():
        hf.transformer.wpe.weight[0] = 300 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    return LanguageModel.load(hf, tokenizer=tokenizer)


@pytest.fixture
def corpus(sinking):
    config = replace(CONFIG.corpus, bos=0.5)
    return Corpus.build(sinking, *split_texts(texts(), config, seed=0), config, seed=0)


def test_a_loud_first_position_is_a_sink(sinking, tiny_gpt2):
    assert first_token_is_sink(sinking)
    assert not first_token_is_sink(tiny_gpt2)


def test_a_loud_bos_is_none(tokenizer):
    hf = tiny_gpt2_model(tokenizer)
    hf.lm_head.weight = torch.nn.Parameter(hf.lm_head.weight.detach().clone())
    with torch.no_grad():
        hf.transformer.wte.weight[tokenizer.bos_token_id] *= 1e4
    assert not first_token_is_sink(LanguageModel.load(hf, tokenizer=tokenizer))


def test_edits_that_are_in_place_say_nothing_of_the_model(tokenizer, tiny_gpt2):
    def loud(x):
        return torch.cat([1e4 * x[:, :1], x[:, 1:]], dim=1)

    with tiny_gpt2.edit({Site("resid_post", 0): loud}):
        assert not first_token_is_sink(tiny_gpt2)


def test_first_tokens_do_not_count_where_they_are_sinks(sinking, tiny_gpt2):
    ids = torch.tensor([[5, 6, 7, 8], [0, 5, 6, 7], [9, 9, 5, 6], [5, 6, 9, 9]])
    mask = torch.tensor([[True] * 4, [True] * 4, [False, False, True, True], [True, True, False, False]])
    plain = mask & (ids != 0)
    assert torch.equal(counted_tokens(tiny_gpt2, Tokens(ids, mask)), plain)
    without = plain.clone()
    without[0, 0] = without[2, 2] = without[3, 0] = False
    assert torch.equal(counted_tokens(sinking, Tokens(ids, mask)), without)


def test_a_dictionary_learns_and_claims_nothing_of_them(sinking, corpus, tmp_path):
    loudest = OnTheFly(sinking, corpus, [SITE], CONFIG.fit, seed=0).first()[SITE].norm(dim=1)
    assert float(loudest.max()) < 10 * float(loudest.median())
    made = fit(sinking, corpus, plans([SITE]), CONFIG.fit, tmp_path, seed=0)[str(SITE)]
    tokens = sinking.tokenize(texts(20), bos=False)
    own = sinking.capture(tokens, [SITE])[SITE][tokens.mask & ~tokens.first].double()
    error = own - made(own.float()).double()
    expected = 1 - float(error.square().sum() / (own - own.mean(dim=0)).square().sum())
    measured = measure(sinking, {SITE: made}, tokens)[SITE]
    assert (measured.tokens, measured.explained_variance) == (len(own), pytest.approx(expected, abs=1e-6))
    assert measured.explained_variance > 0.3
    assert evaluate(sinking, {SITE: made}, tokens)[SITE].explained_variance == pytest.approx(expected, abs=1e-6)


def test_the_answer_is_kept_for_each_model(sinking, tiny_gpt2):
    assert first_token_is_sink(sinking)
    quiet = LanguageModel(copy.deepcopy(tiny_gpt2.hf), None, sinking.name, sinking.family)
    assert not first_token_is_sink(quiet)
    with torch.no_grad():
        sinking.hf.transformer.wpe.weight.zero_()
    assert first_token_is_sink(sinking)


def test_real_models(real_folder):
    expected = {"stories260k": False, "tinytalk-3m-gpt2": False, "SmolLM2-135M-Instruct": True, "gemma-3-270m": False}
    found = {name: real_folder / "models" / name for name in expected if (real_folder / "models" / name).is_dir()}
    found["bundled:spool"] = "bundled:spool"
    for name, place in found.items():
        assert first_token_is_sink(LanguageModel.load(place)) == expected.get(name, False)
