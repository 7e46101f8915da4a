"""The picture of an ablation says what the numbers say."""

import numpy as np

from gossamer.report.figures.recipe_comparison import ablation
from gossamer.training.recipe_comparison.results import Summary


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
