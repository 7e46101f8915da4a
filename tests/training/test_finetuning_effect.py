"""What a fine-tuning changed, against passes of its own, and that a change for the worse is said."""

import copy
import itertools
import warnings
from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts
from word_model import NAMES

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary import DictionarySet
from gossamer.model import Site
from gossamer.replacement.evaluate.quality import quality
from gossamer.tasks import Piece, Prompt, Task
from gossamer.training import TaskPrompts, TrainingWarning, train_dictionaries
from gossamer.training.finetuning_effect import answer_kl, finetuning_effect
from gossamer.training.fit import fit

SITES = [Site("resid_post", 0), Site("resid_post", 1)]


@pytest.fixture
def corpus(tiny_gpt2):
    return Corpus.build(tiny_gpt2, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


@pytest.fixture
def prompts(tokenizer):
    """Prompts of two lengths."""

    def pieces(start, first, second):
        return Piece(start), Piece(f" {first}", "A"), Piece(f" and {second}")

    made = [
        Prompt(pieces(start, a, b), pieces(start, b, a), f" {a}", f" {b}", template=start, case=start)
        for start in ("When", "When the store and")
        for a, b in itertools.permutations(NAMES[:5], 2)
    ]
    return TaskPrompts.of([Task.from_prompts(made, tokenizer, name="pairs", bos=False)])


@pytest.fixture
def fitted(tiny_gpt2, corpus, tmp_path):
    return DictionarySet(fit(tiny_gpt2, corpus, plans(SITES), CONFIG.fit, tmp_path / "fit", seed=0).values())


def test_the_divergence_at_answers_is_that_of_a_pass_of_its_own(tiny_gpt2, corpus, fitted, prompts):
    tokens = prompts.tokens
    edits = {site: lambda x, one=one: one(x) for site, one in fitted.items()}
    own = tiny_gpt2.logits(tokens, at=tokens.last).log_softmax(dim=-1)
    with tiny_gpt2.edit(edits):
        spliced = tiny_gpt2.logits(tokens, at=tokens.last).log_softmax(dim=-1)
    by_hand = (own.exp() * (own - spliced)).sum(dim=-1).mean().item()
    assert by_hand > 0.01
    assert answer_kl(tiny_gpt2, fitted, corpus, prompts) == pytest.approx(by_hand, rel=1e-4)


def test_a_fine_tuning_that_made_it_worse_is_warned_of(tiny_gpt2, corpus, fitted, prompts):
    spoiled = copy.deepcopy(fitted)
    with torch.no_grad():
        for one in spoiled.values():
            one.W_dec.mul_(0.2)
    found = quality(tiny_gpt2, spoiled, corpus.measured, mask=corpus.mask)
    with pytest.warns(TrainingWarning, match="raised the KL to the model") as said:
        effect = finetuning_effect(tiny_gpt2, fitted, spoiled, found, corpus, prompts)
    assert [("held-out text" in str(one.message), "its own prompts" in str(one.message)) for one in said] == [
        (True, False),
        (False, True),
    ]
    assert effect.kl_before == quality(tiny_gpt2, fitted, corpus.measured, mask=corpus.mask).kl < effect.kl
    assert effect.answer_kl_before < effect.answer_kl
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = finetuning_effect(
            tiny_gpt2, spoiled, fitted, quality(tiny_gpt2, fitted, corpus.measured, mask=corpus.mask), corpus, None
        )
    assert (back.kl_before, back.answer_kl) == (effect.kl, None)


def test_files_say_what_it_changed(tiny_gpt2, prompts, tmp_path):
    config = replace(CONFIG, finetune=replace(CONFIG.finetune, tokens=4 * 16 * 30))
    found = train_dictionaries(tiny_gpt2, texts(), SITES, config, tmp_path / "run", prompts=prompts)
    said = found[SITES[0]].provenance["training"]
    before = DictionarySet.load(tmp_path / "run" / "fitted")
    corpus = Corpus.build(
        tiny_gpt2, *split_texts(texts(), config.corpus, seed=config.seed), config.corpus, seed=config.seed
    )
    assert said["finetuning"]["kl"] == said["held_out"]["kl"]
    assert said["finetuning"]["answer_kl_before"] == pytest.approx(
        answer_kl(tiny_gpt2, before, corpus, prompts), rel=1e-5
    )
    assert said["finetuning"]["answer_kl"] == pytest.approx(answer_kl(tiny_gpt2, found, corpus, prompts), rel=1e-5)
    plain = train_dictionaries(
        tiny_gpt2, texts(), SITES, replace(config, finetune=replace(config.finetune, tokens=0)), tmp_path / "plain"
    )
    assert "finetuning" not in plain[SITES[0]].provenance["training"]
