import numpy as np
import pytest
from scipy.stats import pearsonr

from gossamer.relations import MEASURES, PairCounts, fisher_z, support_needed, wilson

F, G = np.array([0.0, 1, 2, 0, 3, 0]), np.array([0.0, 2, 2, 1, 0, 0])


def counts(theta, phi):
    a, b = theta < F, phi < G
    n, m, c, product, *sums = map(np.atleast_1d, (a.sum(), b.sum(), (a & b).sum(), (F * G).sum(), F.sum(), G.sum()))
    squares = np.atleast_1d((F**2).sum()), np.atleast_1d((G**2).sum())
    return PairCounts(6, n, m, c, product, tuple(sums), squares)


def test_measures_of_the_published_vector():
    expected = {
        "pearson": 0.160817,
        "jaccard": 0.5,
        "sufficiency": 2 / 3,
        "necessity": 2 / 3,
        "cosine": 0.534522,
        "mutual_information": 0.056633,
    }
    for name, value in expected.items():
        assert MEASURES[name](counts(0, 0)).item() == pytest.approx(value, abs=5e-7), name
    relative = counts(1.5, 1.0)
    assert [MEASURES[name](relative).item() for name in ("jaccard", "sufficiency", "necessity")] == [1 / 3, 0.5, 0.5]


def test_dead_latents_have_no_relation_and_no_nan():
    zero = np.zeros(1)
    dead = PairCounts(6, np.zeros(1, int), np.array([3]), np.zeros(1, int), zero, (zero, zero + 5), (zero, zero + 9))
    assert {name: measure(dead).tolist() for name, measure in MEASURES.items()} == {name: [0.0] for name in MEASURES}


def test_intervals_are_those_of_scipy():
    found = pearsonr(F, G)
    expected = found.confidence_interval(0.95)
    assert np.concatenate(fisher_z(np.array([found.statistic]), 6)) == pytest.approx(expected, abs=1e-9)
    assert [one.tolist() for one in fisher_z(np.array([0.5]), 3)] == [[-1.0], [1.0]]


def test_support_needed_is_the_first_at_which_a_perfect_share_clears_the_threshold():
    for threshold in (0.5, 0.95):
        counts = support_needed(threshold) - np.arange(2)
        enough, less = wilson(counts, counts)[0]
        assert enough >= threshold > less
