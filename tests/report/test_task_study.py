"""The tables and the page of a study of circuits: what is counted, what is marked, what is escaped."""

from dataclasses import replace

import pytest
from report_sample import findings

from gossamer.circuits.curve import SizeComparison
from gossamer.circuits.task_study import StudiedTask, TaskStudy
from gossamer.errors import GossamerError
from gossamer.report.figures.task_study import task_study_figure
from gossamer.report.task_study import (
    UNSEEN,
    by_case,
    by_size,
    counted,
    each_method,
    headline,
    needed,
    notes,
    overview,
    relied_on,
    sections,
    task_study_page,
    task_study_text,
    unseen,
    write_task_study,
)
from gossamer.report.text import percent
from gossamer.statistics import Interval


def studied(name, missed="", refused=""):
    return StudiedTask(name, name.replace(" ", "-"), 0.9, missed, refused, 40, 20, 1.0, "0" * 64)


def rows(found):
    """Ours is ahead of gradients at 500 nodes, level at 250, and behind, beyond the interval, at 100."""
    method = found.curves[2].method
    gaps = {500: Interval(0.1, 0.05, 0.2), 250: Interval(0.0, -0.1, 0.1), 100: Interval(-0.2, -0.3, -0.1)}
    rival = found.curves[-1].method
    return (
        *(SizeComparison(size, size, method, method, 0.8, 0.8 - gap.value, gap) for size, gap in gaps.items()),
        SizeComparison(500, 500, rival, rival, 0.8, 0.1, Interval(0.7, 0.6, 0.8)),
    )


def sample(**more):
    found = findings()
    found = replace(found, comparisons=rows(found))
    tasks = (studied("ioi"), studied("a <b>", missed="no size <i>"), studied("gone", refused="cannot do it"))
    return TaskStudy({"model": "m<b>"}, tasks, {"ioi": found, "a <b>": found} | more)


def test_rows_are_counted_by_point_value_and_by_interval():
    study = sample()
    assert "In 4 of 6 rows" in headline(study), "at 500 nodes only the better baseline counts"
    table = {row[0]: row[1:] for row in counted(study)}
    assert table["the best at that size"] == ["6", "2 (33%)", "2"]
    assert table[study.findings["ioi"].curves[-1].method] == ["2", "0 (0%)", "0"]
    assert [row[0] for row in by_size(study.findings["ioi"])] == ["nodes", "500", "250", "100"]
    assert [row[-1].endswith("behind") for row in by_size(study.findings["ioi"])[1:]] == [False, False, True]


def test_without_gradients_nothing_is_half_of_them():
    found = findings()
    alone = replace(found, curves=found.curves[:1])
    assert [row[2:] for row in needed(TaskStudy({}, (studied("ioi"),), {"ioi": alone}), 0.01)[1:]] == [["–", "–"]]
    level = replace(found, curves=(found.curves[0], replace(found.curves[0], method="integrated gradients")))
    assert needed(TaskStudy({}, (studied("ioi"),), {"ioi": level}), 0.01)[1][3] == "no"


def test_every_method_is_held_against_the_best_of_all_others():
    study = sample()
    table = each_method(study)
    curves = {curve.method for curve in study.findings["ioi"].curves}
    assert {row[0] for row in table[1:]} == curves
    assert {row[1] for row in table[1:]} == {"6"}, "three sizes of two tasks"
    assert [int(row[2].split()[0]) for row in table[1:]] == sorted(one.behind for one in study.by_method)
    assert sum(6 - one.behind for one in study.by_method) >= 6, "somebody is ahead, or level, in each row"
    assert "any one method" in task_study_text(study)
    assert "any one method" in task_study_page(study)


def test_what_is_above_the_dictionaries_is_marked():
    study = sample()
    found = study.findings["ioi"]
    assert "†" not in overview(study)[1][6]
    circuit = found.budget[-2]
    more = replace(circuit, faithfulness_to_dictionaries=Interval(1.1, 1.0, 1.2))
    above = replace(found, budget=(*found.budget[:-2], more, found.budget[-1]))
    assert "†" in overview(sample(ioi=above))[1][6]
    assert [row[0] for row in overview(study)[1:]] == ["ioi", "a <b>"], "refused tasks have no row"
    assert [row[0] for row in needed(study)[1:]] == ["ioi", "a <b>"]


def test_how_far_circuits_are_relied_on_is_a_table_of_its_own():
    study = sample()
    assert len(overview(study)[0]) == 12, "more columns are cut on a page and in print"
    assert relied_on(study)[0] == ["task", "agreement", "of gradients", "core", "replacement", "completeness"]
    assert [row[0] for row in relied_on(study)[1:]] == ["ioi", "a <b>"]
    for written in (task_study_text(study), task_study_page(study)):
        assert written.index("KL of the empty") < written.index("How stable the circuits are") < written.index("core")


def test_the_page_says_what_was_missed_and_escapes_names(tmp_path):
    study = sample()
    page = task_study_page(study)
    assert page.index("In 4 of 6 rows") < page.index("<main>")
    assert "m&lt;b&gt;" in page
    assert "a &lt;b&gt;: no size &lt;i&gt;" in page
    assert "gone: cannot do it" in page
    assert 'href="ioi/report.html"' in page
    assert "<b>" not in page.replace("<tbody>", "")
    written = write_task_study(study, tmp_path)
    assert written.read_text() == page
    assert (tmp_path / "tables.md").read_text() == task_study_text(study)
    assert {path.name for path in tmp_path.iterdir()} == {"study.html", "study.png", "study.svg", "tables.md"}


def test_what_a_reader_must_see_of_each_task_stands_with_its_name():
    found = replace(sample().findings["ioi"], warnings=("Few <texts>.",))
    study = sample(ioi=found)
    assert "ioi: Few <texts>." in notes(study)
    assert "ioi: Few &lt;texts&gt;." in task_study_page(study)
    assert "- ioi: Few <texts>." in task_study_text(study)


def test_kl_accuracy_and_the_error_of_a_prompt_stand_beside_every_faithfulness():
    found = sample().findings["ioi"]
    head, first = by_size(found)[:2]
    assert [head[2:5], head[7:10]] == [["KL", "per-prompt error", "accuracy"]] * 2
    point = next(point.task_metrics for point in found.curves[0].points if point.size == 500)
    assert first[2:5] == [f"{point.kl:.2f}", f"{point.prompt_error.value:.2f}", percent(point.accuracy)]


def test_scores_of_graphs_stand_in_the_overview():
    study = sample()
    found = study.findings["ioi"]
    assert relied_on(study)[0][-2:] == ["replacement", "completeness"]
    score = found.explained.replacement
    assert relied_on(study)[1][-2] == f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
    assert relied_on(sample(ioi=replace(found, explained=None)))[1][-2:] == ["–", "–"]


def test_each_kind_of_prompts_has_a_row_where_a_task_has_several():
    study = sample()
    cases = study.findings["ioi"].cases
    rows = by_case(study)[1:]
    assert [row[:3] for row in rows[: len(cases)]] == [["ioi", case.name, str(case.prompts)] for case in cases]
    assert f"{cases[0].circuit.faithfulness.value:.3f}" in rows[0][3]
    assert "Each kind of prompts alone" in task_study_page(study)
    many = replace(study.findings["ioi"], cases=cases[:2] * 20)
    assert len(by_case(sample(ioi=many, **{"a <b>": many}))[1:]) == 2 * 20, "the most frequent of forty"
    one = {name: replace(found, cases=cases[:1]) for name, found in study.findings.items()}
    assert by_case(replace(study, findings=one))[1:] == []
    assert "Each kind of prompts alone" not in task_study_page(replace(study, findings=one))


def test_unseen_templates_have_a_table_of_a_row_a_task():
    study = sample()
    found = study.findings["ioi"]
    far, near = (replace(found.unseen.others[0], name=name, faithfulness=Interval(value, 0.1, 1.9), kl=0.5)
                 for name, value in (("far above", 1.7), ("near", 0.65)))  # fmt: skip
    told = replace(found.unseen, others=(*found.unseen.others, far, near), prompts=9)
    head, ours, other = unseen(sample(ioi=replace(found, unseen=told)))
    dictionaries, circuit, empty = told.budget[-3:]
    assert head[1:3] == ["unseen templates", "held out"]
    assert ours[:3] == ["ioi", "gave, <b>met", "9"]
    for cell, one in zip((ours[3], ours[4], ours[7]), (dictionaries, circuit, empty), strict=True):
        share = one.faithfulness
        assert cell.startswith(f"{share.value:.3f} [{share.low:.2f}, {share.high:.2f}]")
        assert cell.endswith(f", {one.kl:.2f}")
    assert ours[5:7] == ["near", "0.650 [0.10, 1.90], 0.50"], "closest to the model, not the largest"
    assert other[5] == "integrated gradients"
    alone = replace(found, unseen=replace(told, others=()))
    assert unseen(sample(ioi=alone))[1][5:7] == ["–", "–"]
    assert told.best_other == near


def test_unseen_templates_stand_on_the_page_with_what_limits_them():
    found = sample().findings["ioi"]
    study = sample(ioi=replace(found, unseen=replace(found.unseen, prompts=9, lacking=1)))
    few = "9 held-out prompts of unseen templates: intervals over fewer than 10 prompts say little"
    assert f"ioi: {few}" in notes(study)
    assert f"a <b>: {few}" not in notes(study)
    lacking = "nodes at roles that these templates lack, which do nothing there: 1"
    assert f"ioi: 9 held-out prompts of unseen templates: {lacking}" in notes(study)
    for written in (task_study_page(study), task_study_text(study)):
        assert written.index("On templates that no search saw") < written.index("behind by point value")
        assert "set aside before any search" in written
    assert "<b>met" not in task_study_page(study)
    assert UNSEEN in dict(sections(study))
    without = {name: replace(one, unseen=None) for name, one in study.findings.items()}
    bare = replace(study, findings=without)
    assert UNSEEN not in dict(sections(bare))
    assert not any("unseen" in note for note in notes(bare))
    for written in (task_study_page(bare), task_study_text(bare)):
        assert "On templates that no search saw" not in written


def test_a_panel_a_task_with_the_best_baseline_of_each_size():
    study = sample()
    figure = task_study_figure(study)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == 2
    line = next(one for one in panels[0].lines if one.get_gid() == "best-baseline")
    assert list(line.get_xdata()) == [100, 250, 500]
    with pytest.raises(GossamerError, match="at least one task with a circuit expected"):
        task_study_figure(replace(study, findings={}))


def test_no_circuit_of_ours_is_outside_the_picture():
    study = sample()
    assert task_study_figure(study).axes[0].get_ylim() == (-0.1, 1.25)
    name, found = next(iter(study.findings.items()))
    first, *others = found.curves
    row = first.points[0].task_metrics
    over = replace(row, faithfulness=replace(row.faithfulness, value=2.0))
    first = replace(first, points=(replace(first.points[0], task_metrics=over), *first.points[1:]))
    study = replace(study, findings={**study.findings, name: replace(found, curves=(first, *others))})
    assert {axes.get_ylim()[1] for axes in task_study_figure(study).axes if axes.get_visible()} == {2.1}
