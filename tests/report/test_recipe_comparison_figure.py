"""The picture of an ablation says what the numbers say."""

import numpy as np

from gossamer.report.figures.recipe_comparison import ablation
from gossamer.report.recipe_comparison import sections, sentences
from gossamer.training.recipe_comparison.results import RecipeComparison, Summary, Trained


def _summary(variant, coefficient, l0, kept):
    mean = {"l0": l0, "loss_recovered": kept, "explained_variance": 0.5, "dead": 0.1}
    half = dict.fromkeys(mean, 0.01)
    return Summary(variant, "improvements", coefficient, mean, half, ((512, 0.0), (1024, coefficient / 10)))


def test_lines_and_curves_are_the_summaries():
    drawn = ablation(
        [
            _summary("baseline", 1.0, 20.0, 0.9),
            _summary("baseline", 3.0, 5.0, 0.7),
            _summary("other", 1.0, 30.0, 0.95),
            _summary("other", 3.0, 8.0, 0.8),
        ]
    )
    pareto, dead = drawn.axes
    lines = {line.get_label(): line for line in pareto.get_lines()}
    np.testing.assert_allclose(lines["baseline"].get_xydata(), [[5.0, 0.7], [20.0, 0.9]])
    np.testing.assert_allclose(lines["other"].get_xydata(), [[8.0, 0.8], [30.0, 0.95]])
    np.testing.assert_allclose(dead.get_lines()[0].get_xydata(), [[512, 0.0], [1024, 0.3]])
    assert "coefficient 3" in dead.get_title(loc="left")
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["baseline", "other"]
    labels = [label.get_text() for label in pareto.get_xticklabels()]
    assert labels == ["5", "10", "20"]


def test_sentences_count_what_is_ahead_beyond_the_interval():
    def one(variant, coefficient, seed, l0, kept, dead=0.0):
        return Trained(variant, "improvements", coefficient, seed, l0, kept, kept, dead, ((512, dead),))

    trained = []
    for seed in (0, 1):
        trained += [one("baseline", 1.0, seed, 16.0, 0.8), one("baseline", 3.0, seed, 4.0, 0.6)]
        # At L0 8 the baseline's line has .7: one change is .05 ahead in both seeds, one is ahead in one and behind in
        # the other; at L0 2 there is no line.
        trained += [one("ahead", 1.0, seed, 8.0, 0.75), one("level", 1.0, seed, 8.0, 0.69 + 0.02 * seed)]
        trained += [one("sparse", 1.0, seed, 2.0, 0.5, 0.25)]
    found = RecipeComparison("toy", "resid_post.0", {}, tuple(trained))
    said = list(sentences(found))
    assert "1 of 2 points" in said[0]
    assert "0 behind" in said[0]
    assert said[2:] == [
        "1 of 3 points lie where the baseline's L0 does not reach and are not held against it.",
        "Most latents are dead with sparse, coefficient 1: 25.0%.",
    ]
    assert list(sentences(RecipeComparison("toy", "resid_post.0", {}, ()))) == []
    ((_, table),) = sections(found)
    assert len(table) == 6
