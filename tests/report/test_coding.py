"""A coding study in words, tables and a picture: what they say is what was measured."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from gossamer.errors import GossamerError
from gossamer.replacement.coding_study import CodingPoint, CodingStudy
from gossamer.report.coding import headline, markdown, sections, sentences, trained_at, write_coding
from gossamer.report.figures.coding import coding


def point(dictionary, method, k, l0, recovered):
    return CodingPoint(dictionary, method, k, l0, recovered, 0.25, 2.0, 0.875, 0.9, 1.0, 0.0)


def sample(best_low=0.5):
    points = [
        point("a", "encoder", None, 2.04, 0.6),
        point("b", "encoder", None, 16.2, 0.95),
        point("a", "gradient", 2, 2.0, best_low),
        point("a", "gradient", 32, 32.0, 0.99),
        point("b", "gradient", 2, 2.0, 0.7),
        point("b", "gradient", 32, 32.0, 1.0),
        point("b", "top_k", 2, 2.0, 0.4),
    ]
    return CodingStudy(
        {"site": "resid_post.1", "ks": [2, 32], "methods": ["encoder", "top_k", "gradient"]}, tuple(points)
    )


def test_dictionaries_are_named_by_the_l0_of_their_training_where_that_tells_them_apart():
    assert [trained_at(sample(), name) for name in ("a", "b")] == ["trained at L0 2", "trained at L0 16"]
    alike = replace(sample(), points=(*sample().points, point("c", "encoder", None, 16.4, 0.9)))
    assert trained_at(alike, "c") == "c"
    assert trained_at(sample(), "unmeasured") == "unmeasured"


def test_the_headline_counts_decoders_that_are_beaten():
    beaten = "decoders are beaten at their own training L0 by one trained at a higher L0"
    assert headline(sample()) == f"Under gradient pursuit 1 of 2 {beaten}, by at most 0.1997"
    assert headline(sample(best_low=0.9)) == f"Under gradient pursuit 0 of 2 {beaten}"
    alone = replace(sample(), points=sample().points[:1])
    assert headline(alone) == "Ways of coding the dictionaries of resid_post.1"


def test_tables_hold_every_number():
    text = markdown(sample())
    assert "| test L0 | trained at L0 2 | trained at L0 16 | best |" in text
    assert "| 2 | 0.5007 | 0.7004 | trained at L0 16 |" in text
    assert "| trained at L0 16 | gradient |  | 0.7000 | 1.0000 |" in text
    assert "| trained at L0 2 | encoder | 2.0: 0.6000 |  |  |" in text
    assert "| b | top_k | 2 | 2.0 | 0.4000 | 0.2500 | 0.8750 |" in text
    assert "| a | encoder |  | 2.0 | 0.6000 | 0.2500 | 0.8750 |" in text


def test_a_sentence_a_pursuit_and_a_table_for_what_was_measured():
    study = sample()
    assert list(sentences(study)) == [f"{headline(study)}."]
    titles = [title for title, _ in sections(study)]
    assert titles == ["CE recovered by gradient pursuit at each test L0", "CE recovered at each k", "Every point"]
    alone = replace(study, points=study.points[:1])
    assert list(sentences(alone)) == []
    assert [title for title, _ in sections(alone)] == titles[1:]


def test_the_picture_draws_every_curve_with_what_is_lost():
    figure = coding(sample())
    assert isinstance(figure, Figure)
    left, first, second = figure.axes
    assert {line.get_gid() for line in left.lines if "-" in str(line.get_gid())} == {"a-gradient", "b-gradient"}
    assert {line.get_gid() for line in second.lines if "-" in str(line.get_gid())} == {"b-gradient", "b-top_k"}
    (drawn,) = [line for line in first.lines if line.get_gid() == "a-gradient"]
    assert list(drawn.get_xdata()) == [2.0, 32.0]
    assert list(drawn.get_ydata()) == pytest.approx([0.5, 0.01])
    # 1.0 recovered has no logarithm of what is lost: it stands at the edge.
    (edge,) = [line for line in second.lines if line.get_gid() == "b-gradient"]
    assert edge.get_ydata()[-1] == pytest.approx(1e-4)
    assert {text.get_text() for text in left.texts} == {"trained at L0 2", "trained at L0 16"}
    encoders = {text.get_text() for text in left.get_legend().get_texts()}
    assert encoders == {"gradient pursuit", "encoder's top k", "encoder"}


def test_a_study_without_pursuit_has_no_picture():
    without = replace(sample(), points=sample().points[:2])
    with pytest.raises(GossamerError, match="a pursuit"):
        coding(without)


def test_files_are_the_same_every_time(tmp_path):
    assert write_coding(sample(), tmp_path / "one") == tmp_path / "one" / "coding.png"
    write_coding(sample(), tmp_path / "two")
    for name in ("tables.md", "coding.svg", "coding.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
