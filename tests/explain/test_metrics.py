"""Formulas of scores against values worked out by hand, plain loops, and SciPy."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from gossamer.errors import UsageError
from gossamer.explain import metrics

TRUE, SIMULATED = ((0.0, 0.0, 4.0, 0.0), (0.0, 2.0, 0.0, 0.0)), ((0.0, 1.0, 8.0, 0.0), (3.0, 0.0, 0.0, 0.0))


def test_the_expected_level_leaves_other_tokens_out():
    assert metrics.expected_level({"0": -0.2, "3": -2.0, "10": -3.0, "x": -4.0}) == pytest.approx(0.900407, abs=1e-6)
    assert metrics.expected_level({" 7": -1.0}) == 7
    assert metrics.expected_level({"x": -0.1, "11": -1.0}) is None


def test_simulations_are_scored_over_all_texts_joined():
    found = metrics.simulation(TRUE, SIMULATED)
    assert found.correlation == pytest.approx(0.780671, abs=1e-6)
    assert (found.slope, found.intercept) == pytest.approx((0.410714, 0.133929), abs=1e-6)
    assert found.explained == pytest.approx(0.697321, abs=1e-6)
    assert found.r_squared == pytest.approx(0.609447, abs=1e-6)
    apart = [metrics.simulation([t], [s]).correlation for t, s in zip(TRUE, SIMULATED, strict=True)]
    assert apart == pytest.approx([0.992523, -1 / 3], abs=1e-6)
    assert found.correlation != pytest.approx(sum(apart) / 2, abs=0.1)


def test_calibration_changes_the_fit_and_not_the_correlation():
    other = metrics.simulation(TRUE, SIMULATED, (((1.0, 2.0, 3.0),), ((2.0, 4.0, 6.0),)))
    assert (other.slope, other.intercept) == pytest.approx((0.5, 0.0))
    assert other.correlation == metrics.simulation(TRUE, SIMULATED).correlation
    assert other.explained != metrics.simulation(TRUE, SIMULATED).explained


def test_the_interval_of_a_correlation_covers_it_where_texts_are_what_is_drawn():
    """Activations that are mostly zero, and texts that differ in how well they are predicted."""
    draw = np.random.default_rng(0)

    def texts(count: int) -> tuple[list[list[float]], list[list[float]]]:
        active = draw.random((count, 12)) < 0.15
        true = np.where(active, draw.lognormal(0.0, 0.8, (count, 12)), 0.0)
        skill = draw.random((count, 1))
        predicted = skill * true + 0.4 * (draw.random((count, 12)) < 0.1) + 0.05 * draw.random((count, 12))
        return true.tolist(), predicted.tolist()

    wanted = metrics.correlation_over_texts(*texts(1500)).value
    found = [metrics.correlation_over_texts(*texts(20)) for _ in range(200)]
    covered = np.mean([one.low <= wanted <= one.high for one in found])
    assert 0.88 <= covered <= 0.99
    middles = [math.atanh(one.value) for one in found]
    fisher = np.mean([abs(one - math.atanh(wanted)) < 1.96 / math.sqrt(20 * 12 - 3) for one in middles])
    assert fisher < 0.75, "with a token as one observation"
    spread = np.std(middles)
    halves = np.median([(math.atanh(one.high) - math.atanh(one.low)) / 2 for one in found])
    assert halves == pytest.approx(2.09 * spread, rel=0.25)


def test_one_text_or_one_that_has_all_activity_leaves_every_correlation_possible():
    alone = metrics.correlation_over_texts(TRUE[:1], SIMULATED[:1])
    assert (alone.value, alone.low, alone.high) == (metrics.simulation(TRUE[:1], SIMULATED[:1]).correlation, -1.0, 1.0)
    only = metrics.correlation_over_texts([[0.0, 3.0], [0.0, 0.0]], [[0.0, 2.0], [1.0, 0.0]])
    assert (only.low, only.high) == (-1.0, 1.0)
    assert metrics.correlation_over_texts(TRUE, ((0.0,) * 4, (0.0,) * 4)) is None


def test_a_constant_simulation_has_no_correlation():
    assert metrics.simulation(TRUE, ((0.0,) * 4, (0.0,) * 4)).correlation is None
    with pytest.raises(UsageError, match="active"):
        metrics.simulation(((0.0, 0.0),), ((1.0, 2.0),))
    with pytest.raises(UsageError, match="as many predictions"):
        metrics.simulation(((0.0, 1.0),), ((1.0,),))


def test_accuracy_balanced_and_f1():
    found = metrics.balanced_accuracy(8, 2, 6, 4)
    assert found.value == pytest.approx(0.7)
    assert metrics.f1(8, 2, 4) == pytest.approx(0.727273, abs=1e-6)
    assert found.low < 0.7 < found.high
    assert metrics.balanced_accuracy(1, 1, 90, 10).value == pytest.approx(0.7)


def test_levels_round_up_or_down():
    values = (0.01, 0.5, 1.0, 9.99, 10.0)
    assert [metrics.ceil_level(one, 10.0) for one in values] == [1, 1, 1, 10, 10]
    assert [metrics.floor_level(one, 10.0) for one in values] == [0, 0, 1, 9, 10]
    assert metrics.ceil_level(3.0, 0.0) == metrics.floor_level(-1.0, 2.0) == 0


def test_auroc_and_gini():
    assert metrics.auroc((3.0, 2.0, 0.5), (0.0, 1.0, 0.0, 0.0)).value == pytest.approx(0.916667, abs=1e-6)
    assert metrics.gini((3.0, 2.0, 0.5), (0.0, 1.0, 0.0, 0.0)) == pytest.approx(0.833333, abs=1e-6)
    # The opposite of a description is not as good as the description.
    assert metrics.gini((0.0, 1.0, 0.0, 0.0), (3.0, 2.0, 0.5)) == pytest.approx(-0.833333, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs(seed):
    draw = random.Random(seed)
    high, low = ([float(draw.randint(0, 5 + shift)) for _ in range(draw.randint(1, 20))] for shift in (2, 0))
    pairs = [(one > other) + (one == other) / 2 for one in high for other in low]
    found = metrics.auroc(high, low)
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert found.value == pytest.approx(stats.mannwhitneyu(high, low).statistic / len(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_intervals_hold_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(0)
    inside = dict.fromkeys(("auroc", "balanced"), 0)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    for _ in range(400):
        found = metrics.auroc(draw.normal(1, 1, 30).tolist(), draw.normal(0, 1, 30).tolist())
        inside["auroc"] += found.low <= truth <= found.high
        tp, tn = int(draw.binomial(30, 0.9)), int(draw.binomial(30, 0.6))
        balanced = metrics.balanced_accuracy(tp, 30 - tp, tn, 30 - tn)
        inside["balanced"] += balanced.low <= 0.75 <= balanced.high
    # 95 % of 400, within three standard errors of 4.4.
    assert all(367 <= count <= 396 for count in inside.values())


def test_no_interval_is_a_point_at_the_ends():
    assert metrics.auroc((1.0, 2.0), (0.0, 0.0)).low < 0.95
    assert metrics.wilson(10, 10).low == pytest.approx(stats.binomtest(10, 10).proportion_ci(method="wilson").low)
    assert metrics.balanced_accuracy(10, 0, 10, 0).low < 0.9


def test_average_precision_of_equal_scores_is_the_base_rate():
    assert metrics.average_precision((1.0, 1.0, 1.0, 1.0), (True, False, False, False)) == pytest.approx(0.25)
    assert metrics.average_precision((4.0, 3.0, 2.0, 1.0), (True, False, True, False)) == pytest.approx((1 + 2 / 3) / 2)
    with pytest.raises(UsageError, match="nothing"):
        metrics.average_precision((1.0, 2.0), (False, False))


def test_faithfulness_is_the_share_of_what_could_be_raised():
    assert metrics.faithfulness(0.1, (0.05, 0.7, 0.3)) == pytest.approx(0.666667, abs=1e-6)
    assert metrics.faithfulness(0.5, (0.1,)) == 0
    with pytest.raises(UsageError, match="below 1"):
        metrics.faithfulness(1.0, (1.0,))


def test_the_mean_over_features_has_an_interval():
    found = metrics.mean_over_features([0.5, 0.7, 0.9])
    assert found.value == pytest.approx(0.7)
    assert 0.5 <= found.low < 0.7 < found.high <= 0.9
    assert metrics.mean_over_features([]) is None
