"""Windows: split by document, without repeats and without leaks; every defect of others that the note lists."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from explain_fixtures import PLANTED, SITE, WINDOWS, feature, planted_store

from gossamer.errors import UsageError
from gossamer.explain import WindowedCorpus, WindowSettings
from gossamer.explain.corpus import DUPLICATE, TEST, TRAIN, VALIDATION, _repeated
from gossamer.explain.windows import (
    NEIGHBOUR,
    RANDOM,
    SAME_TOKENS,
    Unexplained,
    Window,
    decoder_neighbours,
    feature_windows,
    validation_windows,
)
from gossamer.store import FeatureStore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows") / "store"
    model, dictionary = planted_store(folder)
    with FeatureStore(folder) as store:
        yield store, model, dictionary


@pytest.fixture(scope="module")
def corpus(made):
    return WindowedCorpus.of(made[0], WINDOWS)


@pytest.fixture(scope="module")
def dog(corpus):
    return feature_windows(corpus, feature(0), corpus.activations(feature(0)), [corpus.activations(feature(3))])


def test_activations_are_those_of_the_store(made, corpus):
    values = corpus.activations(feature(0))
    found = made[0].tokens_of(feature(0))
    assert (values > 0).sum() == len(found) > 50
    rows = zip(found["document"].to_pylist(), found["position"].to_pylist(), found["value"].to_pylist(), strict=True)
    places = {(int(d), int(p)): at for at, (d, p) in enumerate(zip(corpus.documents, corpus.positions, strict=True))}
    for document, position, value in rows:
        assert values[places[document, position]] == np.float32(value)
    # The latent knows its token, and nothing else.
    assert {corpus.words[one] for one in corpus.ids[values > 0]} == set(PLANTED[0])
    with pytest.raises(UsageError, match="a latent of"):
        corpus.activations(feature(99))


def test_every_token_is_in_one_window_of_one_document(corpus):
    assert corpus.bounds[0] == 0
    assert corpus.bounds[-1] == len(corpus.ids) == 120 * 40
    lengths = corpus.lengths
    assert lengths.min() >= WINDOWS.shortest
    assert lengths.max() < WINDOWS.length + WINDOWS.shortest
    for start, end in zip(corpus.bounds[:-1], corpus.bounds[1:], strict=True):
        assert len(set(corpus.documents[start:end])) == 1
        assert (np.diff(corpus.positions[start:end]) == 1).all()


def test_a_document_is_in_one_part(corpus):
    parts = {}
    for start, part in zip(corpus.bounds[:-1], corpus.split, strict=True):
        parts.setdefault(corpus.documents[start], set()).add(part)
    assert all(len(found - {DUPLICATE}) == 1 for found in parts.values())
    shares = [sum(part in found for found in parts.values()) / len(parts) for part in (TRAIN, VALIDATION, TEST)]
    assert shares == pytest.approx(WINDOWS.split, abs=0.02)


def test_what_is_shown_and_what_is_tested_share_no_document(corpus, dog):
    shown = {one.document for one in (*dog.shown, *dog.top, *dog.silent)}
    tested = {one.document for one in (*dog.positives, *dog.negatives)}
    chosen = {one.document for one in validation_windows(corpus, dog, corpus.activations(feature(0)))}
    assert shown
    assert tested
    assert not shown & tested
    assert not (shown | tested) & chosen


def test_every_active_window_can_be_drawn_those_at_the_ends_of_texts_too(corpus):
    """Others lose the first and the last window of every context."""
    values = corpus.activations(feature(0))
    # At the first and the last token of every text, and nowhere else.
    edge = (corpus.positions == corpus.positions.min()) | np.append(np.diff(corpus.documents) != 0, True)
    found = feature_windows(
        replace(corpus, settings=replace(WINDOWS, positives=1000, shown=1000)),
        feature(0),
        np.where(edge, 1 + values, 0).astype(np.float32),
    )
    for part, drawn in ((TRAIN, found.shown), (TEST, found.positives)):
        inside = np.flatnonzero(corpus.split == part)
        active = inside[np.add.reduceat(edge, corpus.bounds[:-1])[inside] > 0]
        starts = corpus.bounds[active]
        expected = set(zip(corpus.documents[starts].tolist(), corpus.positions[starts].tolist(), strict=True))
        assert {(one.document, one.start) for one in drawn} == expected
        assert len(expected) > 10


def test_activations_of_a_window_stand_at_its_own_tokens(corpus, dog):
    for one in (*dog.shown, *dog.top, *dog.positives, *dog.negatives):
        assert [value > 0 for value in one.activations] == [token in PLANTED[0] for token in one.tokens]
        inside = (corpus.documents == one.document) & (corpus.positions >= one.start)
        own = [corpus.words[number] for number in corpus.ids[inside][: len(one.tokens)]]
        assert own == list(one.tokens)


def test_the_maximum_stands_anywhere(corpus):
    values = corpus.activations(feature(4))
    found = feature_windows(corpus, feature(4), values)
    places = [int(np.argmax(one.activations)) / len(one.tokens) for one in (*found.positives, *found.shown)]
    assert len({round(one, 1) for one in places}) > 5
    assert max(places.count(one) for one in places) < len(places) / 3


def test_silent_windows_are_silent_distinct_and_say_why(corpus, dog):
    assert not any(one.active for one in dog.negatives)
    assert all(one.active for one in dog.positives)
    keys = [(one.document, one.start) for one in dog.negatives]
    assert len(set(keys)) == len(keys) == WINDOWS.negatives
    near = dog.of_kind(NEIGHBOUR)
    assert 0 < len(near) <= WINDOWS.negatives // 4
    assert all(set(PLANTED[3]) & set(one.tokens) for one in near)
    assert len(dog.of_kind(RANDOM)) >= WINDOWS.negatives // 2
    # A token latent has no silent windows with its own token.
    assert not dog.of_kind(SAME_TOKENS)


def test_hard_windows_have_the_feature_s_own_tokens(corpus):
    values = corpus.activations(feature(0)).copy()
    there = np.flatnonzero(values)
    values[there[::2]] = 0
    found = feature_windows(corpus, feature(0), values)
    hard = found.of_kind(SAME_TOKENS)
    assert 0 < len(hard) <= WINDOWS.negatives // 2
    assert all(" dog" in one.tokens and not one.active for one in hard)


def test_strata_cover_the_whole_distribution(corpus):
    values = np.where(corpus.activations(feature(0)) > 0, np.linspace(0.1, 1, len(corpus.ids)), 0).astype(np.float32)
    found = feature_windows(corpus, feature(0), values)
    by_stratum = {}
    for one in found.positives:
        by_stratum.setdefault(one.stratum, []).append(one.maximum)
    assert sorted(by_stratum) == [0, 1, 2, 3]
    assert max(map(len, by_stratum.values())) - min(map(len, by_stratum.values())) <= 1
    bounds = [(min(group), max(group)) for _, group in sorted(by_stratum.items())]
    assert all(low[1] <= high[0] for low, high in itertools.pairwise(bounds))
    assert [one.maximum for one in found.top] == sorted((one.maximum for one in found.top), reverse=True)
    assert found.shown[0].stratum == 3
    assert found.shown[-1].stratum == 0


def test_the_same_seed_gives_the_same_windows(made, corpus, dog):
    again = WindowedCorpus.of(made[0], WINDOWS)
    assert feature_windows(again, feature(0), again.activations(feature(0)), [again.activations(feature(3))]) == dog


def test_a_dead_or_rare_feature_is_not_explained_and_says_why(corpus):
    dead = feature_windows(corpus, feature(2), corpus.activations(feature(2)))
    assert dead == Unexplained(feature(2), "never active in the corpus")
    rare = np.zeros(len(corpus.ids), dtype=np.float32)
    rare[5] = 1.0
    assert "5 needed" in feature_windows(corpus, feature(0), rare).reason


def test_repeated_text_is_left_out_whatever_its_case(corpus):
    words = ("a", " A", "b", " B ", "c", "d", "e", "f", "g", "h", "i", "j")
    first = [0, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    again = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    new = [11, 10, 9, 8, 7, 6, 5, 4, 2, 0]
    ids = np.array([*first, *again, *new], dtype=np.int32)
    documents = np.repeat([0, 1, 2], 10)
    assert _repeated(ids, words, documents, np.array([0, 10, 20, 30])).tolist() == [0, 1, 0]


def test_a_corpus_that_repeats_itself_loses_the_copies(made, tmp_path):
    from explain_fixtures import texts

    from gossamer.store import StoreSettings, build_store

    _, model, dictionary = made
    some = texts(40)
    build_store(model, {SITE: dictionary}, [*some, *some], tmp_path / "s", settings=StoreSettings(context=64, bos=True))
    with FeatureStore(tmp_path / "s") as store:
        corpus = WindowedCorpus.of(store, WINDOWS)
        copies = corpus.documents[corpus.bounds[:-1]] >= 40
        # The first window of a text has a grid of its own in each copy, but its words were all there before.
        assert (corpus.split[copies] == DUPLICATE).all()
        assert not (corpus.split[~copies] == DUPLICATE).any()


def test_marks():
    one = Window(0, 0, (" a", " b", " c", " d"), (0.2, 0.9, 1.0, 0.0))
    assert one.strong(0.5) == (1, 2)
    assert one.strong(3.0) == (2,)
    assert one.marked((1, 2)) == " a<< b c>> d"
    assert one.marked((0, 3), "[", "]") == "[ a] b c[ d]"


def test_decoder_neighbours_are_the_nearest_rows(made):
    dictionary = made[2]
    found = decoder_neighbours(dictionary, [0, 3], 2)
    rows = dictionary.W_dec.numpy()
    for latent, near in found.items():
        cosine = rows @ rows[latent] / np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[latent]), 1e-9)
        cosine[latent] = -2
        assert cosine[near].tolist() == sorted(cosine, reverse=True)[:2]
    assert found[0][0] == 1
    # Of a site of which a round of the game has no feature.
    assert decoder_neighbours(dictionary, [], 2) == {}


def test_few_texts_and_bad_settings_are_refused(made, tmp_path):
    with pytest.raises(UsageError, match="split"):
        WindowSettings(split=(0.5, 0.5, 0.5))
    with pytest.raises(UsageError, match="twice the shortest"):
        WindowSettings(length=8, shortest=8)
    with pytest.raises(UsageError, match="mark"):
        WindowSettings(mark=0.0)
    with pytest.raises(UsageError, match="build a store of more texts"):
        WindowedCorpus.of(made[0], WindowSettings(tokens=40, length=16))
