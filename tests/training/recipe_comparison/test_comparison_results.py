"""Means and intervals over seeds, worked by hand, and the table that shows them."""

import pytest

from gossamer.training.recipe_comparison import RecipeComparison, Trained
from gossamer.training.recipe_comparison.table import markdown


def _trained(seed, l0, variant="baseline", dead=0.25):
    curve = ((512, 0.0), (1024, dead))
    return Trained(variant, "improvements", 1.0, seed, l0, 0.9, 0.8, dead, curve)


def test_the_interval_is_students():
    found = RecipeComparison(
        "toy", "resid_post.0", {}, tuple(_trained(seed, l0) for seed, l0 in enumerate((10.0, 12.0, 14.0)))
    )
    (one,) = found.summaries(["improvements"])
    assert one.mean["l0"] == 12.0
    # Standard deviation 2, three seeds, two degrees of freedom: 4.303 * 2 / sqrt(3).
    assert one.half["l0"] == pytest.approx(4.303 * 2 / 3**0.5, rel=1e-3)
    assert one.half["dead"] == 0
    assert one.dead_curve == ((512, 0.0), (1024, 0.25))
    row = "| baseline | 1 | 12.0 ± 5.0 | 0.900 ± 0.000 | 0.800 ± 0.000 | 25.0% ± 0.0% | – | – |"
    assert row in markdown(found)


def test_one_seed_has_no_interval():
    found = RecipeComparison("toy", "resid_post.0", {}, (_trained(0, 10.0), _trained(0, 11.0, "other")))
    assert [one.half["l0"] for one in found.summaries(["improvements"])] == [None, None]
    assert "| other | 1 | 11.0 | 0.900 | 0.800 | 25.0% | – | – |" in markdown(found)
    assert found.summaries(["dead latents"]) == []


def test_a_variant_is_compared_with_the_baseline_of_its_seed_at_its_own_l0():
    def one(variant, coefficient, seed, l0, kept, explained):
        curve = ((512, 0.0),)
        return Trained(variant, "improvements", coefficient, seed, l0, kept, explained, 0.0, curve)

    trained = []
    # Halfway from 4 to 16 in log L0 is 8.
    for seed, up in ((0, 0.0), (1, 0.1)):
        trained += [one("baseline", 1.0, seed, 16.0, 0.8 + up, 0.5), one("baseline", 3.0, seed, 4.0, 0.6 + up, 0.5)]
        trained += [one("other", 1.0, seed, 8.0, 0.72 + up + 0.01 * seed, 0.4), one("other", 3.0, seed, 3.0, 0.7, 0.4)]
    found = RecipeComparison("toy", "resid_post.0", {}, tuple(trained))
    near, outside = found.summaries(["improvements"])[2:]
    assert near.margin == pytest.approx({"loss_recovered": 0.025, "explained_variance": -0.1})
    # Standard deviation .01 / sqrt(2), two seeds, one degree of freedom: 12.706.
    assert near.margin_half == pytest.approx({"loss_recovered": 12.706 * 0.005, "explained_variance": 0.0}, rel=1e-3)
    assert (outside.margin, outside.margin_half) == ({}, {})
    assert "| +0.0250 ± 0.0635 | -0.1000 ± 0.0000 |" in markdown(found)
