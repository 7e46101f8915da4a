"""Names are found, and exchanged alike throughout a text."""

import re
from dataclasses import replace

import pytest
from training_fixtures import CONFIG, texts
from word_model import NAMES

from gossamer.errors import UsageError
from gossamer.training.corpus import Corpus
from gossamer.training.names import exchanged, find_names


def test_names_are_capitalised_inside_sentences_and_never_small(tiny_gpt2):
    found = find_names(tiny_gpt2, ["one day Mary and Then the Tom , Tom and then the then Mary"] * 10)
    assert found == ["Mary", "Tom"]


def test_words_of_several_tokens_and_rare_words_are_no_names(tiny_gpt2):
    assert find_names(tiny_gpt2, ["and Mary met John", *["and Mary met Amy"] * 9]) == ["Mary"]


def test_every_mention_changes_alike_and_nothing_else_does(tiny_gpt2):
    given = texts(20)
    for before, after in zip(given, exchanged(given, NAMES, seed=0, copy=0), strict=True):
        words = [(a, b) for a, b in zip(before.split(), after.split(), strict=True) if a in NAMES]
        mapping = dict(words)
        assert len(set(mapping.values())) == len(mapping)
        assert all(mapping[a] == b for a, b in words)
        strip = re.compile("|".join(NAMES))
        assert strip.sub("#", before) == strip.sub("#", after)


def test_copies_differ_and_are_seeded():
    given = texts(20)
    first, again, other = (list(exchanged(given, NAMES, seed=0, copy=copy)) for copy in (0, 0, 1))
    assert first == again != other


def test_a_corpus_without_names_is_refused(tiny_gpt2):
    plain = ["the dog is near the park and the girl is happy ."] * 20
    with pytest.raises(UsageError, match="set exchange_names to 0"):
        Corpus.build(tiny_gpt2, plain, plain, replace(CONFIG.corpus, exchange_names=1), seed=0)
