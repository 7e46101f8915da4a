"""Sweeps by what is said of latents: cosines of sentence vectors, by hand and by a user's own embedder."""

import numpy as np
import pytest
from planted_relations import given, planted

from gossamer.errors import UsageError
from gossamer.relations import (
    EXPLANATION_COSINE,
    LifecycleSettings,
    RelationGraph,
    SitePair,
    lifecycle,
    load_relation,
    relate,
    save_relation,
    tfidf_vectors,
    threshold_sweep,
    with_explanations,
)

PAIR = SitePair("up", "down")
UP = {0: "days of the week", 2: "The WEEK", 5: "verbs", 7: "?!"}
DOWN = {0: "names of days of the week", 1: "verbs", 3: "rivers"}


@pytest.fixture
def relation():
    up, down = planted(rows=60)
    return relate(given({"up": up, "down": down}), [PAIR], null=False)[PAIR]


def test_vectors_are_the_smoothed_tfidf_of_the_words():
    found = tfidf_vectors(["a b a", "b c", ""]).toarray()
    rarity = {word: np.log(4 / (1 + count)) + 1 for word, count in (("a", 1), ("b", 2), ("c", 1))}
    expected = np.array([[2 * rarity["a"], rarity["b"], 0], [0, rarity["b"], rarity["c"]], [0, 0, 0]])
    expected[:2] /= np.linalg.norm(expected[:2], axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected)


def test_the_best_partner_by_explanations_is_that_of_all_cosines(relation):
    found = with_explanations(relation, UP, DOWN)
    vectors = tfidf_vectors([*UP.values(), *DOWN.values()]).toarray()
    cosines = vectors[:4] @ vectors[4:].T
    forward, backward = found.forward[EXPLANATION_COSINE], found.backward[EXPLANATION_COSINE]
    np.testing.assert_allclose(forward.value[list(UP)], cosines.max(1))
    np.testing.assert_allclose(backward.value[list(DOWN)], cosines.max(0))
    assert forward.partner[[0, 2, 5]].tolist() == [0, 0, 1]
    assert backward.partner[[0, 1]].tolist() == [0, 5]
    assert forward.value[5] == pytest.approx(1)
    silent = sorted(set(range(24)) - set(UP))
    assert (forward.partner[silent] == -1).all()
    assert (forward.value[silent] == 0).all()
    # As any measure, it is swept, saved and read.
    swept = threshold_sweep(found, EXPLANATION_COSINE)
    assert swept.judged == (4, 3)
    for threshold, count in zip(swept.thresholds, swept.forward, strict=True):
        assert count == (cosines.max(1) + 1e-12 >= threshold).sum()


def test_sweeps_by_explanations_are_saved_but_make_no_edges_or_classes(relation, tmp_path):
    found = load_relation(save_relation(with_explanations(relation, UP, DOWN), tmp_path / "one"))
    assert threshold_sweep(found, EXPLANATION_COSINE).judged == (4, 3)
    with pytest.raises(UsageError, match="'explanation_cosine'"):
        RelationGraph.of([found], EXPLANATION_COSINE, 0.5)
    with pytest.raises(UsageError, match="'explanation_cosine'"):
        lifecycle(found, LifecycleSettings(EXPLANATION_COSINE))


def test_an_embedder_of_ones_own_and_a_dictionary_with_itself(relation):
    def lengths(texts):
        return [[len(text), 1.0] for text in texts]

    found = with_explanations(relation, UP, DOWN, embed=lengths)
    unit = np.array(lengths([*UP.values(), *DOWN.values()]))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(found.forward[EXPLANATION_COSINE].value[list(UP)], (unit[:4] @ unit[4:].T).max(1))
    up, _ = planted(rows=60)
    itself = SitePair("up", "up")
    own = relate(given({"up": up}), [itself], null=False)[itself]
    best = with_explanations(own, UP, UP).forward[EXPLANATION_COSINE]
    assert best.partner[[0, 2]].tolist() == [2, 0]
    alone = with_explanations(own, {3: "one"}, {3: "one"}).forward[EXPLANATION_COSINE]
    assert (alone.value[3], alone.partner[3]) == (0, -1)


def test_texts_that_cannot_be_meant_are_refused(relation):
    for up, said in (({24: "x"}, "found one of latent 24"), ({}, "found none")):
        with pytest.raises(UsageError, match=said):
            with_explanations(relation, up, DOWN)
    for wrong in (lambda texts: np.ones((2, 3)), lambda texts: np.full((len(texts), 2), np.nan)):
        with pytest.raises(UsageError, match="embed: 7 finite vectors"):
            with_explanations(relation, UP, DOWN, embed=wrong)
