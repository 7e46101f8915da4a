"""The picture of a sweep: which lines have a colour, and what the band of random controls covers."""

import pytest
import torch

from gossamer.errors import GossamerError
from gossamer.report import style
from gossamer.report.figures.steering import steering_pareto
from gossamer.steering import SweepNumbers, curves
from gossamer.steering.pareto import UNSTEERED

SHARES = {"prompt": 0.6, "diff_mean": 0.5, "random_direction_0": 0.1, "random_feature_0": 0.3, "single_feature": 0.4}
OTHERS = {f"other_{number}": 0.9 - 0.01 * number for number in range(5)}


def sweep_curves(shares):
    """Each method has one cell of cost .1 with that share of hits."""
    hits = torch.stack([torch.zeros(100), *((torch.arange(100) < 100 * share).double() for share in shares.values())])
    cost = torch.full((len(hits), 6), 0.1, dtype=torch.float64)
    cost[0] = 0
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    numbers = SweepNumbers((UNSTEERED, *shares), hits.double()[:, order, None], cost, torch.ones(6, dtype=torch.long))
    return curves(numbers, "diff_mean")


def test_the_best_are_coloured_and_controls_are_one_band():
    left, right = steering_pareto(sweep_curves(SHARES | OTHERS), "diff_mean", "share", limit=1.0).axes
    colours = {label.get_text(): label.get_color() for label in right.get_yticklabels()}
    assert colours["diff mean"] == style.INK
    assert colours["prompt"] == style.OURS
    assert colours["random feature 0"] == colours["random direction 0"] == style.FAINT
    assert [colours[f"other {number}"] in style.BASELINES for number in range(5)] == [True] * 4 + [False]
    assert colours["single feature"] == style.MUTED
    # The largest area is on top.
    assert next(iter(colours)) == "other 0"
    (band,) = left.collections
    corners = band.get_paths()[0].vertices
    # From what one control reaches to what the other does, behind their cost of .1.
    behind = corners[corners[:, 0] > 0.15]
    assert behind[:, 1].min() == pytest.approx(0.1)
    assert behind[:, 1].max() == pytest.approx(0.3)
    assert left.get_xlim()[1] == pytest.approx(1.02)


def test_a_sweep_without_controls_has_no_band_and_one_without_methods_no_picture():
    left, _ = steering_pareto(sweep_curves({"diff_mean": 0.5}), "diff_mean", "share").axes
    assert not left.collections
    with pytest.raises(GossamerError, match="at least one method"):
        steering_pareto([], "diff_mean", "share")
