"""Rules found for planted features: token sets, pairs, endings, what comes next, weighted sums."""

import itertools

import numpy as np
import pytest
from explain_fixtures import WINDOWS, planted_store

from gossamer.explain import WindowedCorpus
from gossamer.explain.corpus import TEST
from gossamer.explain.fitting import RuleFinder
from gossamer.explain.rules import Rule, WeightedRule
from gossamer.store import FeatureStore


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitting") / "store"
    planted_store(folder, count=400)
    with FeatureStore(folder) as store:
        yield WindowedCorpus.of(store, WINDOWS)


@pytest.fixture(scope="module")
def finder(corpus):
    return RuleFinder(corpus)


def word_at(corpus, offset):
    """The word so many tokens later in the window, for every token; "" where there is none."""
    numbers = np.repeat(np.arange(len(corpus.split)), corpus.lengths)
    found = []
    for place in range(len(corpus.ids)):
        other = place + offset
        inside = 0 <= other < len(numbers) and numbers[other] == numbers[place]
        found.append(corpus.words[corpus.ids[other]].strip() if inside else "")
    return np.array(found)


def f1_on_test(corpus, rule, values):
    rows, inside = corpus.rows(TEST)
    fires, active = rule.fires(rows), values[inside] > 0
    return 2 * (fires & active).sum() / (fires.sum() + active.sum())


def test_a_planted_token_set_is_found_with_its_values(corpus, finder):
    here = word_at(corpus, 0)
    values = np.select([here == "dog", here == "dogs", here == "park"], [2.0, 2.0, 2.0], 0.0).astype(np.float32)
    found = finder.find(values)
    assert isinstance(found.rule, Rule)
    assert {one.text for clause in found.rule.clauses for one in clause.on} == {" dog", " dogs", " park"}
    assert [clause.value for clause in found.rule.clauses] == [2.0]
    assert (found.kind, found.precision, found.recall) == ("token", 1.0, 1.0)
    assert found.saved > 0.5
    assert f1_on_test(corpus, found.rule, values) == 1.0


def test_a_token_before_is_found(corpus, finder):
    values = (word_at(corpus, -1) == "the").astype(np.float32)
    found = finder.find(values)
    assert str(found.rule) == 'activates on <any> after " the" = 1'
    assert f1_on_test(corpus, found.rule, values) == 1.0


def test_what_comes_next_is_found_and_said_by_words_that_are_raised(corpus, finder):
    values = np.isin(word_at(corpus, 1), ["school", "dog"]).astype(np.float32)
    found = finder.find(values)
    assert found.kind == "token after"
    assert f1_on_test(corpus, found.rule, values) == 1.0
    assert finder.find(values, [" school", " dog"]).bits <= found.bits


def test_an_ending_is_shorter_than_its_words(corpus, finder):
    here = word_at(corpus, 0)
    values = np.array([len(one) > 2 and one.lower().endswith("th") for one in here], dtype=np.float32)
    if not values.any():
        values = np.array([one.lower().endswith("er") for one in here], dtype=np.float32)
    found = finder.find(values)
    assert f1_on_test(corpus, found.rule, values) == 1.0


def test_a_class_is_shorter_than_its_words(corpus, finder):
    values = np.array([one[:1].isupper() for one in word_at(corpus, 0)], dtype=np.float32)
    found = finder.find(values)
    assert str(found.rule) == "activates on <capitalised> = 1"
    assert f1_on_test(corpus, found.rule, values) == 1.0


def test_a_pair_beside_a_token(corpus, finder):
    here, before = word_at(corpus, 0), word_at(corpus, -1)
    often = np.isin(before, ["a", "the", "he", "she", "they", "Mary", "John", "Tom", "his", "her"])
    values = ((here == "school") | ((here == "dog") & often)).astype(np.float32)
    found = finder.find(values)
    assert f1_on_test(corpus, found.rule, values) > 0.8


def test_a_weighted_sum_finds_what_a_list_cannot(corpus, finder):
    numbers = np.repeat(np.arange(len(corpus.split)), corpus.lengths)
    there = np.zeros(len(corpus.split), dtype=bool)
    there[numbers[word_at(corpus, 0) == "school"]] = True
    # Active on every "dog" or "park" of a window that has "school" anywhere.
    values = (np.isin(word_at(corpus, 0), ["dog", "park"]) & there[numbers]).astype(np.float32)
    found = finder.find(values)
    assert isinstance(found.rule, WeightedRule)
    assert any(term.offset is None and term.token == " school" for term in found.rule.terms)
    assert f1_on_test(corpus, found.rule, values) > 0.8


def test_noise_has_no_rule(corpus, finder):
    values = (np.random.default_rng(0).random(len(corpus.ids)) < 0.02).astype(np.float32)
    found = finder.find(values)
    assert (found.kind, str(found.rule)) == ("nothing", "activates on nothing")
    assert found.saved <= 0


def test_the_best_set_by_f1_is_a_prefix_by_precision():
    draw = np.random.default_rng(0)
    for _ in range(50):
        size = draw.integers(1, 20, 6)
        hits = np.array([draw.integers(0, one + 1) for one in size])
        total = hits.sum() + 3
        best = max(
            2 * hits[list(chosen)].sum() / (size[list(chosen)].sum() + total)
            for count in range(1, 7)
            for chosen in itertools.combinations(range(6), count)
        )
        order = np.argsort(-hits / size, kind="stable")
        prefixes = 2 * hits[order].cumsum() / (size[order].cumsum() + total)
        assert prefixes.max() == pytest.approx(best)
