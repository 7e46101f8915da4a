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
    assert "| baseline | 1 | 12.0 ± 5.0 | 0.900 ± 0.000 | 0.800 ± 0.000 | 25.0% ± 0.0% |" in markdown(found)


def test_one_seed_has_no_interval():
    found = RecipeComparison("toy", "resid_post.0", {}, (_trained(0, 10.0), _trained(0, 11.0, "other")))
    assert [one.half["l0"] for one in found.summaries(["improvements"])] == [None, None]
    assert "| other | 1 | 11.0 | 0.900 | 0.800 | 25.0% |" in markdown(found)
    assert found.summaries(["dead latents"]) == []
