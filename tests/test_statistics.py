"""Intervals and shares of pairs beside scipy's."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu, sem, t

from gossamer.statistics import Interval, auroc, student_half, wilson


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


def test_auroc_is_the_share_of_pairs_and_unknown_without_one():
    high, low = [3.0, 1.0, 1.0, 0.5], [1.0, 0.0, 2.0]
    assert auroc(high, low) == pytest.approx(mannwhitneyu(high, low).statistic / 12)
    assert math.isnan(auroc(high, []))
    assert math.isnan(auroc([], low))


def test_an_interval_says_what_it_is():
    found = Interval(0.6754, 0.654, 0.699)
    assert str(found) == "0.675 [0.654, 0.699]"
    assert repr(found) == "Interval(0.675, 0.654 to 0.699)"
