"""`gossamer study-circuits` on the bundled model: what it writes, prints, goes on with and refuses."""

import json

import pytest
from typer.testing import CliRunner

from gossamer import cli
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import evaluate_circuit
from gossamer.circuits.task_study import TaskStudy
from gossamer.model.language_model import LanguageModel
from gossamer.report import claims
from gossamer.tasks import get
from gossamer.tasks.storage import prompt_from_json
from gossamer.tasks.unseen_templates import set_aside

# The words of the test are its own: so few prompts leave few of them.
ARGUMENTS = [
    "-t",
    "sva-simple",
    "-t",
    "code-index",
    "-n",
    "48",
    "--steps",
    "12",
    "--reruns",
    "0",
    "--compare",
    "random",
]


def run(*arguments, code=0):
    found = CliRunner().invoke(cli.app, ["study-circuits", "bundled:spool", *arguments], catch_exceptions=code != 0)
    assert found.exit_code == code, found.output
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("study")
    run(*ARGUMENTS, "--out", str(target), "--json")
    return target


def test_every_task_has_a_report_and_the_study_its_page(folder):
    for name in ("sva-simple", "code-index"):
        assert {"report.html", "circuit.json", "findings.json"} <= {path.name for path in (folder / name).iterdir()}
    assert {"study.html", "study.json", "study.png", "tables.md"} <= {path.name for path in folder.iterdir()}
    study = TaskStudy.load(folder)
    assert [curve.method for curve in study.findings["sva-simple"].curves] == ["mask", "random"]


def test_the_words_of_the_test_are_its_own_where_the_task_allows_it(folder):
    tasks = [Circuit.load(folder / name / "circuit.json").inputs.task for name in ("sva-simple", "code-index")]
    assert [task["provenance"]["split_by"] for task in tasks] == ["word", "text"]
    sides = [[prompt_from_json(row) for row in tasks[0][side]] for side in ("train", "test")]
    words = [{piece.text.strip() for row in side for piece in row.clean if piece.role == "subject"} for side in sides]
    assert words[1]
    assert not words[0] & words[1]


def test_the_same_command_finds_all_of_it_done_and_prints_facts(folder):
    before = (folder / "sva-simple" / "findings.json").stat().st_mtime_ns
    found = json.loads(run(*ARGUMENTS, "--out", str(folder), "--json").stdout)
    assert (folder / "sva-simple" / "findings.json").stat().st_mtime_ns == before
    facts = found["tasks"]["sva-simple"]
    assert facts["rows"] >= 10
    assert 0 <= facts["significantly_behind"] <= facts["behind"] <= facts["rows"]
    assert facts["faithfulness"] == TaskStudy.load(folder).findings["sva-simple"].budget[-2].faithfulness.value


def test_errors_may_be_nodes_of_every_circuit(tmp_path):
    asked = ["-t", "sva-simple", "-n", "48", "--steps", "12", "--reruns", "0", "--compare", "none", "--share", "1.0"]
    found = json.loads(run(*asked, "--error-nodes", "--out", str(tmp_path), "--json").stdout)
    circuit, study = Circuit.load(tmp_path / "sva-simple" / "circuit.json"), TaskStudy.load(tmp_path)
    errors = sum(one.node.is_error for one in circuit.nodes)
    assert circuit.provenance["error_nodes"] is True
    assert study.settings["settings"]["error_nodes"] is True
    assert found["tasks"]["sva-simple"]["error_nodes"] == errors
    assert (f"({errors} error" in (tmp_path / "tables.md").read_text()) == (errors > 0)
    assert circuit.groups == study.findings["sva-simple"].groups
    graph = json.loads((tmp_path / "sva-simple" / "graph.json").read_text())
    assert [label for label, *_ in graph["qParams"]["supernodes"]] == [group.label for group in circuit.groups]


def test_other_settings_are_another_study(folder):
    found = run(*ARGUMENTS, "--share", "0.5", "--out", str(folder), code=1)
    assert "holds another study (other share)" in str(found.exception)
    refused = run("-t", "sva-simple", "--share", "1.5", code=1)
    assert "--share: a share from 0 to 1 expected, found 1.5" in str(refused.exception)


UNSEEN = [
    *("-t", "ioi", "-n", "96", "--steps", "4", "--reruns", "0", "--compare", "random"),
    *("--share", "1.0", "--most-nodes", "1", "--size", "40"),
]


def test_templates_that_no_search_saw_are_measured_and_told(tmp_path):
    said = run(*UNSEEN, "--unseen-templates", "2", "--out", str(tmp_path)).stdout
    found = TaskStudy.load(tmp_path).findings["ioi"]
    circuit = Circuit.load(tmp_path / "ioi" / "circuit.json")
    model = LanguageModel.load("bundled:spool")
    whole = get("ioi").generate(model.tokenizer, n=96, seed=0, split_by=None)
    seen, unseen = set_aside(whole, "2", model.tokenizer)
    assert found.unseen.templates == unseen.templates
    prompts = [prompt_from_json(row) for side in ("train", "test") for row in circuit.inputs.task[side]]
    assert {one.template for one in prompts} == set(seen.templates)
    there = evaluate_circuit(tmp_path / "ioi" / "circuit.json", task=unseen)
    assert found.unseen.budget == there.metrics, "the same circuit on these prompts alone"
    assert f"ioi: {claims.unseen(found)}" in said.splitlines()
    assert 'id="unseen"' in (tmp_path / "ioi" / "report.html").read_text(encoding="utf-8")
    for name in ("study.html", "tables.md"):
        assert "On templates that no search saw" in (tmp_path / name).read_text(encoding="utf-8")

    before = (tmp_path / "ioi" / "findings.json").stat().st_mtime_ns
    again = json.loads(run(*UNSEEN, "--unseen-templates", "2", "--out", str(tmp_path), "--json").stdout)
    assert (tmp_path / "ioi" / "findings.json").stat().st_mtime_ns == before
    assert again["tasks"]["ioi"]["unseen_templates"]["prompts"] == found.unseen.prompts == len(unseen.test)
    for other in (["--unseen-templates", "3"], []):
        refused = run(*UNSEEN, *other, "--out", str(tmp_path), code=1)
        assert "holds another study (other unseen_templates)" in str(refused.exception)


def test_a_task_of_one_template_is_named_before_anything_is_searched(tmp_path):
    asked = ["-t", "sva-simple", "-t", "ioi", "-n", "48", "--unseen-templates", "2", "--out", str(tmp_path / "study")]
    refused = str(run(*asked, code=1).exception)
    assert "task sva-simple: several templates expected" in refused
    assert refused.endswith("or leave out sva-simple")
    assert not (tmp_path / "study" / "study.json").exists()
