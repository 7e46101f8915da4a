"""What a training costs is counted by hand for a tiny model, and said before long work."""

from dataclasses import replace

import pytest
from training_fixtures import CONFIG, plans, texts, with_fit

from gossamer import progress
from gossamer.activations.corpus import Corpus, split_texts
from gossamer.model import Site, cost
from gossamer.training import cost as training
from gossamer.training import train_dictionaries

SITE = Site("resid_post", 1)


@pytest.fixture
def corpus(tiny_gpt2):
    return Corpus.build(tiny_gpt2, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


def test_operations_are_twice_the_weights_that_a_token_meets(tiny_gpt2):
    one = 2 * (32 * 96 + 32 * 32 + 2 * 32 * 128)
    assert cost.pass_operations(tiny_gpt2) == 3 * one
    assert cost.pass_operations(tiny_gpt2, 1) == 2 * one
    assert cost.pass_operations(tiny_gpt2, 0, 1) == one
    assert cost.head_operations(tiny_gpt2) == 2 * 32 * tiny_gpt2.d_vocab
    assert cost.operations_per_second(tiny_gpt2) > 0


def test_time_grows_with_tokens_and_memory_with_the_buffer(tiny_gpt2, corpus, monkeypatch):
    monkeypatch.setattr(training, "operations_per_second", lambda model: 1e9)
    even = plans([SITE], sensitivity=0.0)
    none = replace(CONFIG.finetune, tokens=0)
    short, long = (
        training.training_cost(tiny_gpt2, corpus, even, with_fit(tokens=tokens, buffer=tokens), none)
        for tokens in (10_000_000, 20_000_000)
    )
    # What is calibrated on is the same for both.
    assert long.seconds == pytest.approx(2 * short.seconds, rel=1e-2)
    assert long.nbytes - short.nbytes == 10_000_000 * 32 * 4
    tuned = training.training_cost(tiny_gpt2, corpus, even, with_fit(tokens=10_000_000), CONFIG.finetune)
    assert tuned.seconds > short.seconds


def test_what_takes_hours_is_offered_shorter(tiny_gpt2, corpus, monkeypatch):
    asked = (tiny_gpt2, corpus, plans([SITE]), with_fit(tokens=20_000_000), CONFIG.finetune)
    monkeypatch.setattr(training, "operations_per_second", lambda model: 1e12)
    quick = training.told(*asked)
    assert quick.startswith("training 1 dictionary on 20,000,000 tokens of GPT2LMHeadModel: about ")
    assert "--tokens" not in quick
    monkeypatch.setattr(training, "operations_per_second", lambda model: 2e7)
    assert "hours and 0.8 GiB of memory (float32 on cpu); fewer tokens (--tokens " in training.told(*asked)


def test_it_is_said_before_the_work(tiny_gpt2, corpus, tmp_path):
    """By whoever listens: the command line does, a library call does not."""
    lines = []
    token = progress._reporter.set(progress.PlainLines(lines.append))
    try:
        train_dictionaries(tiny_gpt2, texts(), [SITE], CONFIG, tmp_path / "run")
    finally:
        progress._reporter.reset(token)
    said = next(i for i, line in enumerate(lines) if line.startswith("training 1 dictionary on 2,560 tokens"))
    captured = next((i for i, line in enumerate(lines) if line.startswith("capturing")), len(lines))
    assert said < captured
