"""Wherever a faithfulness stands in a table: KL, accuracy and per-prompt error beside it, and the report's mark."""

import re
from dataclasses import replace

import pytest
from marked_run import ERROR, above, exceeding, write_marked
from workbench_run import bench_of, client_of, grave_findings, no_sideways_scroll, serving

from gossamer.circuits.attribution import attribution_patching
from gossamer.circuits.circuit import CircuitNode
from gossamer.circuits.task_metrics import BEYOND, budget_marks
from gossamer.report import claims
from gossamer.report.page import page as report_page
from gossamer.report.task_study import MARKED

ERROR_SHAPE = {"value": ERROR.value, "low": ERROR.low, "high": ERROR.high}
URL = "/api/v1/circuits/circuit"
STUDY = "study~study"


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked") / "run"
    folder.mkdir()
    write_marked(folder, *made[1:])
    return folder


@pytest.fixture(scope="module")
def marked(made):
    return exceeding(made[2])


@pytest.fixture(scope="module")
def ask(folder):
    return client_of(bench_of(folder))


@pytest.fixture(scope="module")
def address(built, folder):
    with serving(folder) as found:
        yield found


def test_of_a_budget_the_circuit_and_the_empty_one_alone_are_marked(marked):
    assert marked.budget[0].exceeds_dictionaries
    assert budget_marks(marked.budget) == [""] * (len(marked.budget) - 2) + [BEYOND, ""]
    *rows, _ = marked.budget
    assert budget_marks([*rows, above(rows[-1])])[-2:] == [BEYOND, BEYOND]


def test_how_a_circuit_was_tested_has_the_marks_of_the_report(ask, marked):
    said = ask.get(f"{URL}/evaluation").json()
    assert [row["mark"] for row in said["budget"]] == budget_marks(marked.budget)
    for curve in said["curves"]:
        marks = [point["task_metrics"]["mark"] for point in curve["points"]]
        assert marks == [("" if place % 2 else BEYOND) for place in range(len(marks))]
        assert all(point["task_metrics"]["prompt_error"] == ERROR_SHAPE for point in curve["points"])
    assert [(case["name"], case["circuit"]["mark"]) for case in said["cases"]] == [
        ("one kind", BEYOND),
        ("another", ""),
    ]
    assert marked.cases[0].full.exceeds_dictionaries
    assert {case["full"]["mark"] for case in said["cases"]} == {""}
    assert said["footnote"] == f"{claims.beyond(marked)['budget']}."
    assert said["footnote"] in re.sub(r"\s+", " ", report_page(marked)).replace("&#39;", "'")
    at = {one["name"]: one for one in said["drawn"]["series"]}
    assert {one["mark"] for one in at.values()} == {BEYOND}
    assert said["drawn"]["marks"] == claims.EXCEEDS
    note = at[marked.curves[0].method]["points"][-1]["note"]
    assert "per-prompt error 0.38, accuracy" in note
    assert note.count(BEYOND) == 1


def test_the_summary_has_its_footnote_and_none_without_a_mark(ask, made, run):
    said = ask.get(URL).json()
    assert BEYOND in said["summary"]
    assert said["footnote"].startswith(f"{BEYOND} {claims.EXCEEDS}")
    circuit = made[2].budget[-2]
    within = replace(circuit, faithfulness_to_dictionaries=replace(circuit.faithfulness_to_dictionaries, value=0.9))
    replace(made[2], budget=(*made[2].budget[:-2], within, made[2].budget[-1])).save(run / "findings.json")
    said = client_of(bench_of(run)).get(URL).json()
    assert BEYOND not in said["summary"]
    assert said["footnote"] is None


def test_nodes_measured_live_are_marked_where_they_keep_more_than_all_latents(made, run):
    found, findings = made[1:]
    # Latents that work against the task: without them the dictionaries keep more than with all of theirs.
    splice = found.study.splice
    keys, worst = splice.nodes.keys(), attribution_patching(splice).argsort()[:6].tolist()
    against = replace(found.circuit, nodes=tuple(CircuitNode(keys[place]) for place in worst))
    against.save(run / "against" / "circuit.json")
    ask = client_of(bench_of(run))
    own, others = ([str(one.node) for one in circuit.nodes] for circuit in (findings, against))
    marks = set()
    for circuit, nodes in (("circuit", own), ("circuit", own[:3]), ("circuit", []), ("against~circuit", others)):
        said = ask.post(f"/api/v1/circuits/{circuit}/score", json={"nodes": nodes}).json()
        rows = {name: said[name] for name in ("pinned", "without", "circuit", "empty", "dictionaries")}
        kept = rows["dictionaries"]["faithfulness"]["value"]
        for name, row in rows.items():
            if abs(row["faithfulness"]["value"] - kept) > 1e-6:
                assert (row["mark"] == BEYOND) == (row["faithfulness"]["value"] > kept), name
        assert rows["dictionaries"]["mark"] == ""
        assert (said["footnote"] is None) == (not any(row["mark"] for row in rows.values()))
        marks |= {row["mark"] for row in rows.values()}
    assert rows["without"]["mark"] == BEYOND
    assert marks == {"", BEYOND}


def test_compared_circuits_have_the_error_and_the_mark(ask):
    said = ask.get("/api/v1/compare/circuits", params={"a": "circuit", "b": "half~circuit"}).json()
    assert (said["a"]["prompt_error"], said["a"]["mark"]) == (ERROR_SHAPE, BEYOND)
    assert (said["b"]["prompt_error"], said["b"]["mark"]) == (None, "")
    assert said["footnote"].startswith(BEYOND)
    alone = ask.get("/api/v1/compare/circuits", params={"a": "half~circuit", "b": "half~circuit"}).json()
    assert alone["footnote"] is None


def test_controls_are_marked_by_their_own_dictionaries(ask):
    # The study's circuits are in the same dictionaries.
    table, *_ = ask.get("/api/v1/dicts/circuit").json()["controls"]
    assert table["title"] == "Circuits of circuit beside controls"
    assert table["columns"][4:] == ["the circuit keeps", "per-prompt error", "accuracy", "KL, nats"]
    kept = [row[4] for row in table["rows"]]
    assert kept == ["0.90 [0.80, 0.95]†", "0.90 [0.80, 0.95]"], "the second's dictionaries keep .95"
    assert [row[5:] for row in table["rows"]] == [["0.38 [0.25, 0.50]", 0.75, 0.125]] * 2
    assert table["footnote"].startswith(BEYOND)


def test_tables_of_a_study_say_what_their_mark_means(ask):
    tables = {table["title"]: table for table in ask.get(f"/api/v1/studies/{STUDY}").json()["tables"]}
    marked = {
        title for title, table in tables.items() if any(BEYOND in str(cell) for row in table["rows"] for cell in row)
    }
    assert {"What the circuits keep", "Each kind of prompts alone, of many the 20 most frequent"} <= marked
    assert {title for title, table in tables.items() if table["footnote"] == MARKED} == marked
    assert {table["footnote"] for title, table in tables.items() if title not in marked} == {""}


# Where each table is, and what has to be opened for it.
TABLES = {
    "/circuit/circuit/evaluation": ("Error budget", None),
    "/circuit/circuit/evaluation?": ("Circuits of every method", "summary:has-text('As a table')"),
    "/circuit/circuit/evaluation?kinds": ("The circuit on each kind of prompts", None),
    "/compare/circuits": ("The two circuits", None),
    "/dictionary/circuit": ("Circuits of circuit beside controls", None),
}


@pytest.mark.parametrize("width", [420, 1400])
def test_every_table_with_a_faithfulness_shows_the_error_the_mark_and_what_it_means(visit, width):
    page = visit("/", width)
    for where, (caption, opened) in TABLES.items():
        page.goto(page.url.split("#")[0] + f"#{where}")
        table = page.locator(f".datatable:has(caption:text-is('{caption}'))")
        table.wait_for(state="attached")
        if opened:
            page.click(opened)
        for head in ("per-prompt error", "accuracy", "KL, nats"):
            assert table.locator(f"th:has-text('{head}')").count() >= 1, (where, head)
        assert table.locator(f"td:has-text(']{BEYOND}')").count() >= 1, where
        # Under the table, not above it.
        assert table.locator(f".scroll + p.note:has-text('{BEYOND} more faithful than the dictionaries')").count() == 1
        assert no_sideways_scroll(page), where
    page.goto(page.url.split("#")[0] + f"#/study/{STUDY}")
    page.wait_for_selector("h2:has-text('What the circuits keep')")
    study = page.locator(".datatable:has(caption:text-is('What the circuits keep'))")
    assert study.locator(f"p.note:has-text('{MARKED}')").count() == 1
    # A cell with a mark is a number all the same: it stands at the right and sorts as one.
    assert "left" not in (study.locator(f"td:has-text(']{BEYOND}')").first.get_attribute("class") or "")
    assert not grave_findings(page)


def test_pinned_nodes_have_an_error_too(visit, made):
    page = visit("/circuit/circuit")
    page.wait_for_selector(".lead:has-text('†')")
    assert page.locator(".lead + p.note:has-text('† more faithful')").count() == 1
    page.click("text=Pin all")
    page.wait_for_selector(".scores")
    page.wait_for_selector(".pinned [aria-busy=false]")
    heads = page.locator(".scores th[scope=col]").all_inner_texts()
    assert heads == ["network", "faithfulness [95 %]", "", "per-prompt error", "accuracy", "KL"]
    assert page.locator(".scores tr.ours td").count() == 5
    assert no_sideways_scroll(page)
