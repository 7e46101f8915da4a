"""A study of relations is shown as its report has it, as far as it went."""

import pytest
from workbench_run import bench_of, client_of

from gossamer.relations import LifecycleCounts, RelationStudy
from gossamer.relations.study_results import FORMAT, RESULTS, RelationsPart, StudiedDictionary
from gossamer.report.relation_study import sections, sentences
from gossamer.results import Record

NAMES = ("resid_post.0", "resid_post.1")
SETTINGS = {"measures": ["pearson"], "threshold": 0.5, "model": "a model"}
AHEAD = {"passed on": 50, "gone": 30, "dead": 15, "too rare to judge": 5}
BEHIND = {"passed on": 40, "new": 40, "dead": 20, "too rare to judge": 0}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_what_is_done_is_what_the_report_says(folder):
    life = tuple(
        LifecycleCounts(*NAMES, "pearson", 0.5, matching, AHEAD, BEHIND) for matching in ("best", "hungarian", "mutual")
    )
    rows = (
        RelationsPart("relations", dictionaries=(StudiedDictionary(NAMES[0], 100, 5.0, 15, 5, 0.9),)),
        RelationsPart("lifecycle", lifecycle=life),
    )
    FORMAT.save(folder / RESULTS, Record(SETTINGS, rows))
    study = RelationStudy.load(folder)
    page = client_of(bench_of(folder)).get("/api/v1/studies/study").json()
    assert (page["kind"], page["title"]) == ("study of relations", "a model")
    assert page["parts"] == ["relations", "lifecycle"]
    assert page["sentences"] == list(sentences(study))
    assert len(page["sentences"]) >= 1
    expected = list(sections(study))
    assert len(expected) >= 2
    assert [[one["columns"], *one["rows"]] for one in page["tables"]] == [rows for _, rows in expected]


def test_a_damaged_study_and_other_parts_are_refused(folder):
    (folder / RESULTS).write_text('{"format": "gossamer.relation_study.1", "settings": 3')
    ask = client_of(bench_of(folder))
    assert ask.get("/api/v1/studies/study").status_code == 422
    assert ask.get("/api/v1/studies/nothing").status_code == 404
