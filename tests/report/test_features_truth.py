"""What features are worth as sentences, tables and a picture."""

import pytest

from gossamer.errors import GossamerError
from gossamer.report.features_truth import features_truth_text, headline, write_features_truth
from gossamer.report.figures.features_truth import features_figure
from gossamer.toys.feature_scores import FeatureScores
from gossamer.toys.features_truth import FeaturesTruth, ScoredReading


def one(dictionary, reading, variance, f1, seed=0, target=7):
    scores = FeatureScores(0.5, 0.75, f1, 0.25, 0.5, variance, 0.9, 6.5, 7.25, 3, 16)
    return ScoredReading(dictionary, reading, target, seed, scores)


def sample():
    rows = []
    for seed, more in enumerate((0.0, 0.02)):
        rows += [
            one("matryoshka", "encoder", 0.7 + more, 0.8 - more, seed),
            one("batchtopk", "encoder", 0.75 + more, 0.6, seed),
            one("pursuit", "matching", 0.85 + more, 0.4 + more, seed),
            one("truth", "matching", 0.8, 0.95, seed),
            one("random", "matching", 0.1, 0.05, seed),
        ]
    return FeaturesTruth({}, tuple(rows))


def test_the_sentence_says_that_the_best_reconstruction_has_the_worst_features():
    assert headline(sample(), 7) == (
        "At an L0 of 7 matching pursuit on the pursuit-learned decoder explains the most variance (0.150 ± 0.000 "
        "more than the Matryoshka encoder) and is number 3 of 3 by F1; the Matryoshka encoder has the best F1 "
        "(0.380 ± 0.254 more) and is number 3 by variance. In 0 of 3 pairs of readings the one that reconstructs "
        "better has the better F1."
    )
    agreeing = FeaturesTruth({}, (one("l1", "encoder", 0.5, 0.5), one("topk", "encoder", 0.6, 0.6)))
    assert headline(agreeing, 7) == (
        "At an L0 of 7 the TopK encoder has both the most variance explained and the best F1."
    )
    assert headline(FeaturesTruth({}, (one("l1", "encoder", 0.5, 0.5),)), 7) == ""


def test_a_line_holds_means_and_students_intervals():
    text = features_truth_text(sample())
    assert "## L0 7 (features active in a sample: 7.2)" in text
    head, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, *lines)]
    assert len(lines) == 5
    values = dict(zip(cells[0], cells[1], strict=True))
    # Of two values that differ by .02 the half interval is 12.706 * .01.
    assert values["variance explained"] == "0.710 ± 0.127"
    assert (values["dictionary"], values["read by"], values["L0"]) == ("Matryoshka", "encoder", "6.50 ± 0.00")
    alone = features_truth_text(FeaturesTruth({}, (one("l1", "encoder", 0.5, 0.5),)))
    assert "| L1 | encoder | 6.50 | 0.500 | 0.500 |" in alone


def test_the_picture_has_a_point_for_each_reading_and_each_l0():
    more = FeaturesTruth({}, (*sample().scored, one("l1", "encoder", 0.5, 0.3, target=5)))
    figure = features_figure(more)
    assert len(figure.axes) == 4
    assert [axes.get_ylabel() for axes in figure.axes] == ["F1", "", "MCC", ""]
    points = {bar.lines[0].get_gid(): bar.lines[0] for bar in figure.axes[1].containers}
    assert set(points) >= {"matryoshka-encoder", "pursuit-matching", "truth-matching"}
    assert points["pursuit-matching"].get_xdata()[0] == pytest.approx(0.86)
    assert points["pursuit-matching"].get_ydata()[0] == pytest.approx(0.41)


def test_files_are_the_same_each_time_and_nothing_is_refused(tmp_path):
    for name in ("one", "two"):
        assert write_features_truth(sample(), tmp_path / name) == tmp_path / name / "features.png"
    for name in ("tables.md", "features.svg", "features.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with pytest.raises(GossamerError, match="at least one reading"):
        features_figure(FeaturesTruth({}, ()))
