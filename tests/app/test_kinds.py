"""A file of every kind of results is in the overview, and every view of one answers; damaged ones say so."""

import pytest
from workbench_run import bench_of, client_of

from gossamer.app.routes.studies import drawn_pictures
from gossamer.app.run_folder import KINDS
from gossamer.app.server import exported_paths
from gossamer.circuits.adversarial.seeds import FORMAT as SEEDS
from gossamer.circuits.adversarial.seeds import SeedStudy
from gossamer.circuits.task_study import TaskStudy
from gossamer.replacement.coding_study import load_study
from gossamer.report import adversarial, coding, recipe_comparison, task_study
from gossamer.report.figures.coding import pictures as coding_pictures
from gossamer.report.figures.task_study import pictures as task_pictures
from gossamer.training.recipe_comparison import RecipeComparison

# Of which the overview says no more than that they are there: their size and format alone.
UNREAD = {"relation", "task"}


@pytest.fixture(scope="module")
def asked(kinds):
    return client_of(bench_of(kinds))


def test_every_kind_is_in_the_overview_and_says_what_it_holds(asked):
    answer = asked.get("/api/v1/run")
    assert answer.status_code == 200, answer.text
    parts = answer.json()["parts"]
    assert {part["kind"] for part in parts} == {kind.name for kind in KINDS.values()}
    for part in parts:
        expected = "not read" if part["kind"] in UNREAD else "whole"
        assert part["state"] == expected, part
        assert part["kind"] in UNREAD or part["facts"], part
        assert all(len(fact) < 300 for fact in part["facts"]), part


def test_all_that_a_page_asks_of_these_files_is_answered(kinds, asked):
    paths = list(exported_paths(bench_of(kinds)))
    assert len(paths) > 20
    assert {path: asked.get(path).status_code for path in paths} == dict.fromkeys(paths, 200)


def tables(page):
    return [(one["title"], [one["columns"], *one["rows"]]) for one in page["tables"]]


@pytest.mark.parametrize(
    ("part", "title", "load", "report", "pictures"),
    [
        ("circuits~study", "bundled:spool", lambda run: TaskStudy.load(run / "circuits"), task_study, task_pictures),
        (
            "coding~results",
            "bundled:spool at resid_post.1",
            lambda run: load_study(run / "coding"),
            coding,
            coding_pictures,
        ),
        (
            "recipes~results",
            "bundled:spool at resid_post.1",
            lambda run: RecipeComparison.load(run / "recipes" / "results.json"),
            recipe_comparison,
            recipe_comparison.pictures,
        ),
    ],
)
def test_a_study_is_what_its_report_says(kinds, asked, part, title, load, report, pictures):
    page, found = asked.get(f"/api/v1/studies/{part}").json(), load(kinds)
    assert page["title"] == title
    assert page["sentences"] == list(report.sentences(found)) != []
    assert tables(page) == list(report.sections(found)) != []
    assert (
        [one["svg"] for one in page["pictures"]] == [one.svg for one in drawn_pictures(lambda: pictures(found))] != []
    )


def test_tasks_of_a_study_lead_to_their_circuits(asked):
    page = asked.get("/api/v1/studies/circuits~study").json()
    assert page["parts"] == ["sva one", "sva two", "gone"]
    led = {one["task"]: one["circuit"] for one in page["circuits"]}
    assert led == {"sva one": "circuits~sva-one~circuit", "sva two": "circuits~sva-two~circuit"}
    assert all(asked.get(f"/api/v1/circuits/{circuit}").status_code == 200 for circuit in led.values())
    assert "behind by point value" in dict(tables(page))[task_study.BESIDE][0]
    assert "gone: cannot do it" in page["sentences"]


def test_several_seeds_are_one_page(kinds, asked):
    page = asked.get("/api/v1/studies/adversarial~seeds").json()
    found = SeedStudy(SEEDS.load(kinds / "adversarial" / "seeds.json").rows)
    assert page["sentences"] == [found.verdict]
    assert tables(page) == list(adversarial.seed_sections(found))
    assert [title for title, _ in tables(page)][1:] == ["Seed 0", "Seed 1"]


def test_every_kind_that_is_damaged_says_so(kinds, tmp_path):
    """The beginning of every file, cut off: all are there and none breaks the overview."""
    for part in bench_of(kinds).run.parts().values():
        if part.kind not in UNREAD:
            (tmp_path / part.id).mkdir()
            (tmp_path / part.id / part.path.name).write_bytes(part.path.read_bytes()[: part.bytes // 2])
    answer = client_of(bench_of(tmp_path)).get("/api/v1/run")
    assert answer.status_code == 200
    parts = answer.json()["parts"]
    assert len(parts) > 15
    assert [part for part in parts if part["state"] != "damaged" or not part["message"]] == []
