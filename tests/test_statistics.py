"""Intervals and shares of pairs beside scipy's."""

import math
import random

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu, sem, t

from gossamer.statistics import Interval, auroc, jackknife_of_pairs, quantile_bounds, student_half, wilson


def test_intervals_of_shares_are_those_of_scipy():
    low, high = wilson(np.array([0, 3, 50]), np.array([10, 7, 50]))
    for k, n, one, other in zip((0, 3, 50), (10, 7, 50), low, high, strict=True):
        expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert (one, other) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert [one.tolist() for one in wilson(np.array([0]), np.array([0]))] == [[0.0], [1.0]]


def test_students_interval_is_that_of_scipy():
    values = [0.3, 0.1, 0.45, 0.2]
    low, high = t.interval(0.95, 3, loc=0.2625, scale=sem(values))
    assert student_half(values) == pytest.approx((high - low) / 2)
    assert student_half([0.3]) is None


def test_a_jackknife_of_pairs_is_that_of_pseudovalues():
    draws = np.random.default_rng(0)
    for n in (3, 5, 8):
        matrix = draws.random((n, n))
        matrix = (matrix + matrix.T) / 2
        pairs = [(i, j) for i in range(n) for j in range(i)]
        mean = np.mean([matrix[i, j] for i, j in pairs])
        without = [np.mean([matrix[i, j] for i, j in pairs if left not in (i, j)]) for left in range(n)]
        pseudo = n * mean - (n - 1) * np.array(without)
        low, high = t.interval(0.95, n - 1, loc=mean, scale=sem(pseudo))
        found = jackknife_of_pairs(matrix)
        assert (found.value, found.low, found.high) == pytest.approx((mean, low, high))


def test_a_jackknife_covers_what_it_should():
    # Pairs that share an item's own level: the pairs' own spread would take them as independent.
    draws = np.random.default_rng(1)
    covered, naive = 0, 0
    for _ in range(400):
        level = draws.normal(size=10)
        matrix = level[:, None] + level[None, :]
        found = jackknife_of_pairs(matrix)
        covered += found.low <= 0 <= found.high
        pairs = matrix[np.tril_indices(10, -1)]
        naive += abs(pairs.mean()) <= student_half(pairs)
    assert 0.92 < covered / 400 < 0.98
    assert naive / 400 < 0.75


def test_one_pair_has_no_interval_and_one_item_nothing():
    found = jackknife_of_pairs([[1.0, 0.25], [0.25, 1.0]])
    assert found.value == 0.25
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert jackknife_of_pairs([[1.0]]) is None
    assert jackknife_of_pairs(np.ones((4, 4))) == Interval(1.0, 1.0, 1.0)


def test_auroc_is_the_share_of_pairs_and_unknown_without_one():
    high, low = [3.0, 1.0, 1.0, 0.5], [1.0, 0.0, 2.0]
    assert auroc(high, low) == pytest.approx(mannwhitneyu(high, low).statistic / 12)
    assert math.isnan(auroc(high, []))
    assert math.isnan(auroc([], low))


def test_an_interval_says_what_it_is():
    found = Interval(0.6754, 0.654, 0.699)
    assert str(found) == "0.675 [0.654, 0.699]"
    assert repr(found) == "Interval(0.675, 0.654 to 0.699)"


def test_bounds_of_a_quantile_are_the_order_statistics_of_the_binomial():
    values = [float(place) for place in range(1, 1001)]
    found = quantile_bounds(random.Random(0).sample(values, len(values)), 0.99)
    assert (found.low, found.high) == (983, 997)
    assert found.coverage == pytest.approx(0.976, abs=5e-4)
    # 0.99 ** 368 is the first power below 0.025: a smaller sample has no value that is surely above the percentile.
    assert quantile_bounds(values[:368], 0.99).high == 368
    few = quantile_bounds(values[:367], 0.99)
    assert (few.low, few.high, few.needed) == (359, None, 368)
    assert str(few) == "[359.000, none] (needs 368 values)"
    assert quantile_bounds([1.0, 2.0], 0.5).low is None


def test_bounds_of_a_quantile_hold_as_often_as_they_say():
    rng, held, tried, expected = random.Random(1), 0, 2000, quantile_bounds(list(map(float, range(60))), 0.9)
    for _ in range(tried):
        found = quantile_bounds([rng.random() for _ in range(60)], 0.9)
        assert None not in (found.low, found.high)
        held += found.low <= 0.9 < found.high
    assert held / tried == pytest.approx(expected.coverage, abs=0.015)
