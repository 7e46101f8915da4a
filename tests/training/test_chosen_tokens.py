"""Tokens that are left out are never learned from or measured, and dictionaries remember which they were."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts, with_fit
from word_model import tiny_gpt2_model

from gossamer.activations import LoudTokens, LoudTokensWarning, TokenMask
from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary import DictionarySet
from gossamer.dictionary.attach import measure
from gossamer.dictionary.training_tokens import TrainingTokens
from gossamer.errors import UsageError
from gossamer.model import LanguageModel, Site
from gossamer.replacement.evaluate import evaluate
from gossamer.training import DictionarySpec, TrainingConfig, train_dictionaries
from gossamer.training.buffer import OnTheFly
from gossamer.training.cache import write_cache
from gossamer.training.fit import fit, sensitivity_rows

SITE = Site("resid_post", 1)
LOUD_WORD = " apple"


@pytest.fixture
def shouting(tokenizer):
    """A model that one ordinary word makes a hundred times as loud as the others, wherever it stands."""
    hf = tiny_gpt2_model(tokenizer)
    with torch.no_grad():
        hf.transformer.wte.weight[tokenizer(LOUD_WORD)["input_ids"][0]] *= 300
    return LanguageModel.load(hf, tokenizer=tokenizer)


def stories():
    """The loud word is in every eighth of them at most."""
    return [text if number % 8 == 0 else text.replace(LOUD_WORD, " book") for number, text in enumerate(texts(120))]


def corpus_of(model, mask, context=16):
    config = replace(CONFIG.corpus, mask=mask, context=context)
    return Corpus.build(model, *split_texts(stories(), config, seed=0), config, seed=0)


def test_a_buffer_holds_the_tokens_that_count_and_no_others(shouting):
    mask = TokenMask(loud=LoudTokens(SITE, 10.0), positions=(2, None))
    corpus = corpus_of(shouting, mask)
    source = OnTheFly(shouting, corpus, [SITE], with_fit(buffer=512), seed=0)
    tokens = source.tokens(0)
    own = shouting.capture(tokens, [SITE])[SITE]
    counted = mask.counted(shouting, tokens)
    assert 0 < int((own.norm(dim=-1) > 100).sum()) < int(counted.sum())
    torch.testing.assert_close(source.first()[SITE], own[counted])
    assert float(source.first()[SITE].norm(dim=1).max()) < 10 * float(own[counted].norm(dim=1).median())


def test_the_default_mask_leaves_fingerprints_and_settings_as_they_were(tiny_gpt2):
    assert corpus_of(tiny_gpt2, TokenMask()).fingerprint == corpus_of(tiny_gpt2, TokenMask(sinks=False)).fingerprint
    assert corpus_of(tiny_gpt2, TokenMask()).fingerprint != corpus_of(tiny_gpt2, TokenMask(ids=(7,))).fingerprint
    assert "mask" not in TrainingConfig().facts["corpus"]
    changed = replace(CONFIG, corpus=replace(CONFIG.corpus, mask=TokenMask(positions=(1, None))))
    assert changed.facts["corpus"]["mask"] == {"positions": [1, None]}


def test_trained_without_loud_tokens_a_dictionary_explains_the_others(shouting, tmp_path):
    """And it says so, on disk too: measured by default as it was trained, all loud tokens pass through."""
    mask = TokenMask(loud=LoudTokens(SITE, 10.0))
    config = replace(CONFIG, corpus=replace(CONFIG.corpus, mask=mask), finetune=replace(CONFIG.finetune, tokens=256))
    found = train_dictionaries(shouting, stories(), [SITE], config, tmp_path / "run")
    read = DictionarySet.load(tmp_path / "run" / "dictionaries")
    assert TrainingTokens.of(found[SITE]).mask == TrainingTokens.of(read[SITE]).mask == mask
    corpus = corpus_of(shouting, mask)
    claimed = read[SITE].reported.explained_variance
    alone = measure(shouting, read, corpus.measured)[SITE]
    assert alone.explained_variance == claimed
    assert evaluate(shouting, read, corpus.measured)[SITE].tokens == alone.tokens
    with pytest.warns(LoudTokensWarning):
        loud = evaluate(shouting, read, corpus.training, mask=TokenMask())[SITE]
    assert loud.explained_variance < claimed - 0.2
    assert loud.tokens > evaluate(shouting, read, corpus.training)[SITE].tokens


def test_loud_tokens_are_warned_of_when_a_training_begins(shouting, tmp_path):
    corpus = corpus_of(shouting, TokenMask())
    with pytest.warns(LoudTokensWarning, match=rf"{SITE}: the loudest hundredth"):
        fit(shouting, corpus, plans([SITE], sensitivity=0.0), with_fit(tokens=128, buffer=4096), tmp_path, seed=0)


def test_a_cache_holds_the_tokens_that_count(shouting, tmp_path):
    corpus = corpus_of(shouting, TokenMask(loud=LoudTokens(SITE, 10.0)))
    source = OnTheFly(shouting, corpus, [SITE], with_fit(), seed=0, whole_buffers=True)
    held = write_cache(source, 1, "float32", tmp_path)
    assert held.shards[0].tokens == int(source.counted(0).sum()) < int(source.tokens(0).mask.sum())


@pytest.mark.parametrize("tokens", [64 * 8, 64 * 40, 64 * 100])
def test_no_more_is_captured_than_was_asked_for(tiny_gpt2, tokens, monkeypatch):
    """Whatever the size of the buffer is, as long as a run takes a few of them."""
    monkeypatch.setattr("gossamer.training.buffer.calibration_tokens", lambda learned: 128)
    corpus = corpus_of(tiny_gpt2, TokenMask())
    for buffer in (1024, 2048, 131_072):
        source = OnTheFly(tiny_gpt2, corpus, [SITE], with_fit(tokens=tokens, buffer=buffer), seed=0)
        assert source.rows * 16 <= max(buffer, 16)
        captured = turns = 0
        while captured < tokens + 128:
            captured += source.turn(turns).tokens
            turns += 1
        # A batch of each buffer may be left over; rows differ in length.
        assert captured <= 1.1 * (tokens + 128 + 64) + 64 * turns + 16


def test_sensitivity_costs_a_small_share_of_a_run_that_spans_the_dimensions():
    assert sensitivity_rows(with_fit(tokens=3_000_000, sensitivity_rows=512), 128, 64) == 512
    assert sensitivity_rows(with_fit(tokens=200_000, sensitivity_rows=512), 640, 64) == 98
    assert sensitivity_rows(with_fit(tokens=2048, sensitivity_rows=512), 640, 64) == 80
    assert sensitivity_rows(with_fit(tokens=200_000, sensitivity_rows=20), 640, 64) == 20


def test_sites_of_a_spec_may_be_names():
    spec = DictionarySpec("one", "mlp_in.2", "mlp_out.2", replace(CONFIG.trainer, sensitivity=0.0))
    assert (spec.site, spec.target) == (Site("mlp_in", 2), Site("mlp_out", 2))
    assert DictionarySpec("two", site="resid_post.2").site == Site("resid_post", 2)
    with pytest.raises(UsageError, match="pattern"):
        DictionarySpec("three", site="pattern.2")
