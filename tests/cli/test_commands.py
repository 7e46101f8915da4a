"""The command line: exit codes, one-line errors, text as it was written, help that reads, JSON that parses."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from gossamer import bundled, cli, demo
from gossamer.circuits import findings as evaluation
from gossamer.circuits import study
from gossamer.circuits.circuit import Circuit, CircuitNode
from gossamer.circuits.overlap import Overlap
from gossamer.circuits.results import Completeness, Findings, PromptView
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.cli import inputs
from gossamer.dictionary import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.features import Feature, Node
from gossamer.model import LanguageModel, Site
from gossamer.results.lock import folder_lock
from gossamer.statistics import Interval
from gossamer.store import FeatureStore

COMMANDS = (
    "demo",
    "circuit",
    "study-circuits",
    "evaluate-circuit",
    "adversarial",
    "report",
    "view",
    "export",
    "upload",
    "trace",
    "explore",
    "tasks",
    "train",
    "check",
    "evaluate",
    "pursuit",
    "toys",
    "features-truth",
    "relations-truth",
    "compare-recipes",
)
SPOOL = ("circuit", "bundled:spool", "--task", "code-index")
# What rich would take for its markup (the last tag closes nothing: an error to it) and for a picture.
MARKUP = "[red]a[/red] [1, 2] :cat: [/INST]"


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model is an error: what is refused has to be refused before."""
    monkeypatch.setattr(LanguageModel, "load", None)


@pytest.fixture
def prompts(tmp_path):
    """A file of prompts full of markup, in a folder that is named with it."""
    rows = [
        {"clean": f"{MARKUP} {a} {b} {a}", "counterfactual": f"{MARKUP} {a} {b} {b}", "answer": "1", "wrong": "2"}
        for a in "01234567"
        for b in "01234567"
        if a != b
    ]
    path = tmp_path / "d[bold]" / "rows.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, [{**row, "roles": {"first": MARKUP}} for row in rows])))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    found = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert found.exit_code == 0
    assert len(found.output.splitlines()) > 5


def test_help_does_not_load_torch():
    code = "import sys; from gossamer import cli; assert 'torch' not in sys.modules, 'torch was loaded'"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("error", "code"), [(UsageError("wrong " + MARKUP), 2), (GossamerError(MARKUP), 1)])
def test_errors_are_one_line_with_their_exit_code(monkeypatch, gossamer, error, code):
    def fail(**_):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert gossamer() == (code, "", f"error: {error}\n")


@pytest.mark.parametrize(
    "arguments", [("circuit", "no/such/folder", "-t", "ioi"), ("tasks", "no-such-task"), ("circuit",), ("nonsense",)]
)
def test_a_users_mistakes_end_in_exit_code_2_without_a_traceback(gossamer, arguments):
    refused = gossamer(*arguments)
    assert refused.code == 2
    assert "Traceback" not in refused.err


def test_a_users_mistake_in_a_process_of_its_own():
    command = [sys.executable, "-c", "from gossamer.cli import run; run()", "circuit", "no/such/folder", "-t", "ioi"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2, found.stderr
    assert re.fullmatch(r"error: .*no/such/folder.*\n", found.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--compare", "foo"), r"--compare: some of mask \| .* \| greedy, or all or none alone expected, found 'foo'"),
        (("--compare", "none", "--compare", "random"), "--compare: some of .* found 'none'"),
        (("--recipe", "best"), "--recipe: expected one of gossamer, reference, found 'best'"),
        (("--ablation", "nothing"), "--ablation: expected one of mean, zero, resample, found 'nothing'"),
        (("--loss", "l2"), "--loss: expected one of metric, kl, found 'l2'"),
        (("--metric", "accuracy"), "--metric: expected one of logit_diff, .*, kl, found 'accuracy'"),
        (("--roles", "diff"), "--roles: for a file of prompts; .* is no file of prompts: leave the option out"),
        (("--roles", "guess"), "--roles: expected one of given, position, answers, diff, found 'guess'"),
        (("--steps", "0"), "--steps: at least 1 expected, found 0"),
        (("--reruns", "-1"), "--reruns: at least 0 expected, found -1"),
        (("--validation", "1"), "--validation: a share from 0 to less than 1 expected, found 1.0"),
        (("--batch-size", "0"), "--batch-size: at least 1 expected, found 0"),
        (("--minimum-accuracy", "75"), "--minimum-accuracy: a share from 0 to 1 expected, found 75.0"),
        (("--dtype", "int64"), "--dtype: expected one of float32, bfloat16, float16, float64, found 'int64'"),
        (("--other", "[/b].json"), r"\[/b\].json: no such file"),
        (("--store", "no/store"), "no/store: a feature store expected, found no store.json"),
        (("--out", __file__), f"{__file__}: cannot be written"),
        (("--out", f"{__file__}/folder"), f"{__file__}/folder: cannot be written"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_before_a_model_is_loaded(no_model, gossamer, arguments, said):
    found = gossamer(*SPOOL, *arguments)
    assert found.code == 2
    assert re.fullmatch(f"error: .*{said}.*\n", found.err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-f", "nan"), "faithfulness: a share above 0 and at most 1 expected, found nan"),
        (("-f", "7"), "faithfulness: a share above 0 and at most 1 expected, found 7.0"),
        (("-f", "-1"), "faithfulness: a share above 0 and at most 1 expected, found -1.0"),
        (("--size", "0"), "size: at least 1 node expected, found 0"),
        (("--size", "5", "-f", "0.9"), "give faithfulness or size as the target, not both"),
        (("--prompts", "0"), "expected at least one prompt, found n=0"),
    ],
)
def test_an_impossible_target_is_refused_before_any_search(monkeypatch, gossamer, arguments, said):
    monkeypatch.setattr(study, "candidates", None)
    found = gossamer(*SPOOL, "--prompts", "64", *arguments)
    assert found.code == 2
    assert re.fullmatch(f"\n?error: .*{said}.*\n", found.err)


def test_a_demo_without_a_place_for_its_report_is_refused(no_model, gossamer):
    found = gossamer("demo", "--out", __file__)
    assert (found.code, found.out) == (2, "")
    assert f"error: {__file__}: cannot be written" in found.err


def test_ctrl_c_is_one_line(monkeypatch, gossamer):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(LanguageModel, "load", interrupted)
    assert gossamer("check", "bundled:spool") == (130, "", "stopped; nothing was left half-written\n")


def test_numbers_between_commas():
    assert inputs.numbers("--layers", "2, 4,6") == [2, 4, 6]
    with pytest.raises(UsageError, match=r"--layers: expected numbers as 2,4,6, found '2;4'"):
        inputs.numbers("--layers", "2;4")


def test_tasks_are_listed(gossamer):
    listed, as_json = gossamer("tasks"), gossamer("tasks", "--json")
    assert listed.code == as_json.code == 0
    names = ("ioi", "sva-rc", "code-key")
    assert all(name in listed.out and json.loads(as_json.out)[name]["prompts"] == 512 for name in names)
    assert gossamer("tasks", "--bos", "--save", "x.json").err == (
        "error: --bos, --save: for one task; give its name or a file of prompts\n"
    )


def test_prompts_are_shown_as_they_are_written(gossamer, prompts):
    shown = gossamer("tasks", prompts)
    assert shown.code == 0
    for text in ("[red]", "[1, 2]", ":cat:", "[/INST]"):
        assert text in " ".join(shown.out.split())
    missing = gossamer("tasks", prompts.parent / "none[/b].jsonl")
    assert missing.code == 2
    assert missing.err.startswith(f"error: {prompts.parent}/none[/b].jsonl: no such file")


def test_a_task_as_json_is_what_was_saved(gossamer, prompts, tmp_path):
    path = tmp_path / "task.json"
    facts = json.loads(gossamer("tasks", prompts, "--save", path, "--json", "--no-bos", "--seed", "3").out)
    assert facts["saved"] == str(path)
    assert facts["name"] == "rows"
    assert facts["bos"] is False
    assert "first" in facts["roles"]
    example = facts["examples"][0]
    assert "".join(text for text, _ in example["clean"]).startswith(MARKUP)
    assert (example["answer"], example["incorrect"]) == ("1", "2")
    again = json.loads(gossamer("tasks", path, "--json").out)
    assert again == {**facts, "saved": None}


def test_options_that_a_file_has_no_room_for_are_refused(gossamer, prompts, tmp_path):
    path = tmp_path / "task.json"
    assert gossamer("tasks", prompts, "--save", path).code == 0
    for file, option, said in (
        (prompts, ("--prompts", 3), f"--prompts: for tasks that are generated; {prompts} has its own prompts"),
        (path, ("--prompts", 3), f"--prompts: for tasks that are generated; {path} has its own prompts"),
        (path, ("--bos",), f"--bos: {path} is a saved task, which keeps its own"),
        (path, ("--seed", 0), f"--seed: {path} is a saved task, which keeps its own split"),
    ):
        assert gossamer("tasks", file, *option) == (2, "", f"error: {said}: leave the option out\n")


def test_check_measures_a_file_of_text(gossamer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(["The boy is here.", "One day, Tom and Mary went to the park. " * 40, "[/b]"]))
    found = gossamer("check", "bundled:spool", "--text", path, "--json")
    assert found.code == 0
    sites = json.loads(found.out)
    assert list(sites) == ["resid_post.1", "resid_post.2", "resid_post.3"]
    assert all(site["l0"] > 1 for site in sites.values())
    table = gossamer("check", "bundled:spool")
    assert table.code == 0
    assert table.out.count("as claimed") == 3


def test_evaluate_measures_every_dictionary(gossamer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(["The boy is here.", "When Mary and John went to the park, John gave a book to Mary."]))
    table = gossamer("evaluate", "bundled:spool", "--text", path)
    assert table.code == 0
    assert [line.split()[0] for line in table.out.splitlines()[2:5]] == ["resid_post.1", "resid_post.2", "resid_post.3"]
    assert "BOS left out" in table.out
    found = gossamer("evaluate", "bundled:spool", "--text", path, "--rows", 1, "--json")
    first = json.loads(found.out)["resid_post.1"]
    assert first["eval_type_id"] == "core"
    assert first["eval_result_metrics"]["token_stats"]["total_tokens_eval_sparsity_variance"] > 3
    refused = gossamer("evaluate", "bundled:spool", "--text", path, "--rows", 0)
    assert refused == (2, "", "error: --rows: at least 1 expected, found 0\n")


def test_evaluate_says_what_dictionaries_keep_of_a_task(gossamer, tmp_path):
    table = gossamer("evaluate", "bundled:spool", "--task", "sva-simple", "-n", "48")
    assert table.code == 0, table.err
    for said in ("+ all dictionaries", "subject", "all sites", "held-out prompts, errors: mean"):
        assert said in table.out
    found = json.loads(gossamer("evaluate", "bundled:spool", "-t", "sva-simple", "-n", "48", "--json").out)
    rows = {row["name"]: row for row in found["budget"]}
    assert rows["full model"]["faithfulness"]["value"] == 1
    assert 0 < rows["+ all dictionaries"]["faithfulness"]["value"] < 1.5
    given = ("evaluate", "bundled:spool", "-t", "sva-simple", "-n", "48", "--split-by")
    text, word = (json.loads(gossamer(*given, kind, "--json").out) for kind in ("text", "word"))
    assert text == found
    assert word["budget"][-1]["kl"] != found["budget"][-1]["kl"]
    for given, expected in (
        ((), "one of --text and --task expected, found none"),
        (("--text", tmp_path, "--task", "ioi"), "one of --text and --task expected, found both"),
        (("--text", tmp_path, "-n", "3"), "--prompts: for --task; give one or leave it out"),
        (("--text", tmp_path, "--split-by", "word"), "--split-by: for --task; give one or leave it out"),
        (("--task", "ioj"), "task: expected one of ioi"),
    ):
        refused = gossamer("evaluate", "bundled:spool", *given)
        assert refused.code == 2
        assert expected in refused.err


@pytest.mark.parametrize("command", ["check", "evaluate"])
def test_dictionaries_of_another_model_are_refused_unless_asked_for(gossamer, tmp_path, command):
    text = tmp_path / "text.jsonl"
    text.write_text('{"story": "the cat sees the dogs"}\n' * 4)
    folder = tmp_path / "other"
    shutil.copytree(bundled.path("spool") / "dictionaries" / "resid_post.1", folder)
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"] |= {"model_name": "gpt2", "hook_name": "a hook of its own", "gossamer": {}}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    given = [command, "bundled:spool", "-d", str(folder), "--text", str(text), "--text-key", "story"]
    assert "--fact site=resid_post.3" in gossamer(*given).err
    given += ["--fact", "site=resid_post.1"]
    result = gossamer(*given)
    assert result.code == 2
    assert "trained on gpt2, the model is bundled:spool" in result.err
    assert "--allow-other-model" in result.err
    assert gossamer(*given, "--allow-other-model").code == 0


def test_pursuit_sweeps_ways_of_coding(gossamer, tmp_path):
    text, folder = tmp_path / "text.txt", bundled.path("spool") / "dictionaries"
    text.write_text("\n\n".join(["The boy is here.", "When Mary and John went to the park, John gave a book to Mary."]))
    asked = ("pursuit", "bundled:spool", "--text", text, "--rows", 1, "--k", "2,8", "--out", tmp_path / "out")
    chosen = (*asked, "-d", folder / "resid_post.2", "--method", "encoder", "--method", "gradient")
    found = gossamer(*chosen, "--json")
    assert found.code == 0, found.err
    points = json.loads(found.out)["points"]
    coded = [("resid_post.2", coder, k) for coder, k in (("encoder", None), ("gradient", 2), ("gradient", 8))]
    assert [(one["dictionary"], one["method"], one["k"]) for one in points] == coded
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json", "tables.md", "coding.png", "coding.svg",
    }  # fmt: skip
    table = gossamer(*chosen)
    assert "resid_post.2 gradient" in table.out
    assert gossamer(*asked, "-d", folder).err == (
        f"error: {folder}: dictionaries at resid_post.1, resid_post.2, resid_post.3; choose one with --site\n"
    )
    assert "--site: " in gossamer(*asked, "-d", folder, "--site", "mlp_out.1").err
    assert "--dictionaries: each folder once" in gossamer(*asked, "-d", folder, "-d", folder).err


def test_folders_are_told_apart_by_what_differs():
    assert inputs.by_folder(["x/k8/dictionaries", "x/k16/dictionaries"]) == {
        "k8": "x/k8/dictionaries",
        "k16": "x/k16/dictionaries",
    }
    assert list(inputs.by_folder(["/a/one", "/b/c/two"])) == ["a/one", "b/c/two"]
    assert list(inputs.by_folder(["x/d", "x/y/d"])) == ["d", "y"]
    assert inputs.by_folder(["hub:some/where"]) == {"where": "hub:some/where"}


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(None, 2, "no such file"), (b"\xff\xfe\0", 1, "expected UTF-8 text"), (b" \n", 2, "expected text, found none")],
)
def test_check_names_a_text_that_is_none(no_model, gossamer, tmp_path, content, code, said):
    path = tmp_path / "text[b].txt"
    if content is not None:
        path.write_bytes(content)
    found = gossamer("check", "bundled:spool", "--text", path)
    assert found.code == code
    assert re.fullmatch(f"error: {re.escape(str(path))}: {said}.*\n", found.err)


def everything_of_another_task():
    """A circuit of all latents that spool's dictionaries have."""
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    provenance = {"dictionaries": {str(site): dict(one.provenance) for site, one in dictionaries.items()}}
    features = [Feature(site, latent) for site, one in dictionaries.items() for latent in range(one.n_latents)]
    nodes = tuple(CircuitNode(Node(feature, "END")) for feature in features)
    return Circuit(nodes, "bundled:spool", "everything", tuple(dictionaries), ("END",), provenance=provenance)


@pytest.mark.slow
def test_a_circuit_from_the_command_line(monkeypatch, gossamer, tmp_path):
    folder, evaluated = tmp_path / "out[b]", []

    def watched(found, **options):
        # The circuit is safe before the evaluation, which takes longer than the search; nothing of the run before is.
        assert {path.name for path in folder.rglob("*")} == {"circuit.json", "graph.json", "search.json", "figures"}
        assert Circuit.load(folder / "circuit.json") == found.circuit
        evaluated.append(found)
        return evaluation.collect_findings(found, **options)

    monkeypatch.setattr(demo, "collect_findings", watched)
    (folder / "figures").mkdir(parents=True)
    for name in ("circuit.json", "report.html", "findings.json", "graph.json", "figures/curves.svg"):
        (folder / name).write_text("of another run")
    other = everything_of_another_task().save(tmp_path / "other.json")
    small = ("--prompts", 64, "--size", 15, "--steps", 12, "--reruns", 0, "--compare", "mask", "--compare", "random")
    found = gossamer(*SPOOL, *small, "--edges", "--qk", "--other", other, "--out", folder, "--json")
    assert found.code == 0, found.err
    facts = json.loads(found.out)
    circuit = Circuit.load(facts["circuit"])
    assert facts["nodes"] == len(circuit.nodes) <= 15
    assert circuit.measured == {name: facts[name] for name in circuit.measured}
    assert {path.name for path in folder.iterdir()} >= {"circuit.json", "graph.json", "report.html", "findings.json"}
    written = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert [curve["method"] for curve in written["curves"]] == ["mask", "random"]
    assert all(node["generic"] == ["everything"] for node in written["nodes"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert circuit.sha256 in page
    assert facts["edges"] == written["edge_test"]
    assert facts["edges"]["every"]["value"] == pytest.approx(circuit.measured["faithfulness"])
    assert len(facts["edges"]["points"]) > 3
    assert written["qk"]
    assert written["edges"] == json.loads((folder / "circuit.json").read_text(encoding="utf-8"))["edges"]
    assert str(bundled.home()) not in page
    assert_it_is_measured_again(gossamer, facts)
    assert_it_is_drawn_again(gossamer, folder, tmp_path / "again")
    assert_it_is_drawn_with_the_cards_of_a_store(gossamer, folder, tmp_path)
    refused = gossamer(*SPOOL, "--prompts", 64, "--other", facts["circuit"])
    assert refused.code == 2
    assert "--other: a circuit of bundled:spool for another task than code-index expected" in refused.err
    assert_no_method_is_drawn_twice(monkeypatch, evaluated[0])


def assert_it_is_measured_again(gossamer, facts):
    again = json.loads(gossamer("evaluate-circuit", facts["circuit"], "--json").out)
    assert again["measured"] == {name: facts[name] for name in again["measured"]}
    assert (again["changed"], again["differences"]) == ([], [])
    assert "all numbers are those of the file" in gossamer("evaluate-circuit", facts["circuit"]).out
    other = gossamer("evaluate-circuit", facts["circuit"], "-t", "code-index", "-n", 80, "--seed", 5)
    assert "changed: task: other prompts of code-index" in other.out
    assert "differs from the file: " in other.out
    refused = gossamer("evaluate-circuit", facts["circuit"], "-n", 80)
    assert (refused.code, refused.err) == (
        2,
        "error: --prompts, --bos: for other prompts than the circuit's own; give --task too\n",
    )


def assert_it_is_drawn_again(gossamer, folder, again):
    assert gossamer("report", folder / "findings.json", "--out", again).code == 0
    assert (again / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    # The folder stands for the file in it.
    (again / "report.html").unlink()
    assert gossamer("report", folder, "--out", again).code == 0
    assert (again / "report.html").is_file()
    refused = gossamer("report", folder / "figures")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"{folder / 'figures' / 'findings.json'}: no such file; give a findings.json, or the --out" in refused.err


def assert_it_is_drawn_with_the_cards_of_a_store(gossamer, folder, tmp_path):
    text, store, again = tmp_path / "text.txt", tmp_path / "store", tmp_path / "stored"
    text.write_text("\n\n".join(["The boy near the dogs is here.", "x = 1", "One day, Tom and Mary went to the park."]))
    assert gossamer("store", "build", "bundled:spool", store, "--text", text).code == 0
    drawn = gossamer("report", folder / "findings.json", "--store", store, "--out", again)
    assert drawn.code == 0, drawn.err
    before, after = (Findings.load(one / "findings.json") for one in (folder, again))
    assert (before.cards_of, after.cards_of) == ("the held-out prompts", "23 tokens of the store store")
    with FeatureStore(store) as opened:
        cards = opened.cards([node.card.feature for node in after.nodes])
    assert [node.card for node in after.nodes] == [cards[node.card.feature] for node in after.nodes]
    assert replace(after, nodes=before.nodes, cards_of=before.cards_of) == before
    assert "examples are of 23 tokens of the store store" in (again / "report.html").read_text()
    circuit, site = Circuit.load(folder / "circuit.json"), str(before.nodes[0].site)
    one = replace(circuit.inputs.dictionaries[site], sha256="0" * 64)
    changed = replace(circuit.inputs, dictionaries={**circuit.inputs.dictionaries, site: one})
    other = tmp_path / "changed"
    other.mkdir()
    shutil.copy(folder / "findings.json", other)
    replace(circuit, inputs=changed).save(other / "circuit.json")
    refused = gossamer("report", other / "findings.json", "--store", store)
    assert (refused.code, f"of another model or dictionary ({site}: " in refused.err) == (2, True), refused.err


def assert_no_method_is_drawn_twice(monkeypatch, found):
    """Whatever found a circuit is not among what it is compared with by default."""
    asked = []

    def recorded(_, methods, search):
        asked.append(list(methods))
        raise InterruptedError

    monkeypatch.setattr(study.Study, "paths", recorded)
    for own in ("mask", "reference recipe"):
        with pytest.raises(InterruptedError):
            evaluation.collect_findings(replace(found, path=replace(found.path, method=own)))
        assert asked[-1] == [name for name in found.study.methods if name != own]


def evaluated(reruns):
    """Findings of a circuit of two nodes that keeps nine tenths, in words and numbers alone."""
    one = Interval(0.9, 0.8, 1.0)
    row = TaskMetrics("circuit", one, one, one, 1.0, 1.0, 0.25, Interval(0.125, 0.1, 0.2), answer_kl=0.5)
    every = replace(row, name="+ all dictionaries", faithfulness=Interval(0.97, 0.9, 1.0))
    pairs = ((1.0, 0.5), (0.5, 1.0))
    varied = [Overlap(kind, ("a", "b"), (2, 2), pairs, pairs) for kind in ("bootstrap", "size")]
    prompt, left = PromptView((), (), (), "", ""), Completeness(row, ())
    return Findings("t", "m", (), (), prompt, (every, row, row), (), left, tuple(varied[: 2 if reruns else 0]), ())


def test_the_demo_says_what_was_found_and_how_stable_it_is(monkeypatch, gossamer, tmp_path):
    evaluated(reruns=True).save(tmp_path / "findings.json")
    measured = {"faithfulness": 0.9, "accuracy": 1.0, "kl": 0.25}
    nodes = [CircuitNode(Node(Feature(Site.parse("resid_post.1"), latent), "END"), 0.5) for latent in (3, 4)]
    circuit = SimpleNamespace(nodes=nodes, measured=measured, task="t", model="m")
    found = SimpleNamespace(circuit=circuit, path=SimpleNamespace(nodes=[1] * 7))
    result = SimpleNamespace(found=found, report=tmp_path / "report.html")
    monkeypatch.setattr(demo, "run_demo", lambda folder, seed: result)
    assert json.loads(gossamer("demo", "--json").out) == {
        "circuit": str(tmp_path / "circuit.json"),
        "graph": str(tmp_path / "graph.json"),
        "report": str(tmp_path / "report.html"),
        "nodes": 2,
        "error_nodes": 0,
        **measured,
        "prompt_error": 0.125,
        "answer_kl": 0.5,
        "stability": {"bootstrap": {"value": 0.5, "low": "NaN", "high": "NaN"}},
        "core": {"nodes": [], "keeps": None},
        "graph_scores": None,
        "families": None,
        "unseen_templates": None,
        "controls": None,
        "edges": None,
        "groups": None,
    }
    said = " ".join(gossamer("demo").out.split())
    assert "2 nodes of 7 candidates keep 90.0% of the logit difference of t in m" in said
    assert "KL 0.250 nats, between the answers alone 0.500, per-prompt error 0.125)" in said
    assert "the dictionaries with all of their latents keep 97.0%" in said
    assert "mean Jaccard index of 0.50 between all prompts and 1 sample of them" in said
    evaluated(reruns=False).save(tmp_path / "findings.json")
    assert json.loads(gossamer("demo", "--json").out)["stability"] == {}
    assert "Jaccard" not in gossamer("demo").out


def test_toys_writes_a_table_and_a_picture(gossamer, tmp_path, monkeypatch):
    from gossamer.toys import sweep

    monkeypatch.setattr(sweep, "quick", lambda: sweep.SweepSettings(steps=2, batch=8, toy_steps=2, samples=32))
    monkeypatch.setattr(sweep, "cases", lambda: [sweep.ToyCase("sort", "l1", 0.3, 1.0)])
    asked = ("toys", "--quick", "--seeds", 1, "--out", tmp_path / "out")
    (found,) = json.loads(gossamer(*asked, "--json").out)["found"]
    assert (found["case"]["toy"], found["seed"]) == ("sort", 0)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"results.json", "tables.md", "recovery.png"}
    assert gossamer(*asked).out.startswith("1 dictionaries; wrote ")
    assert gossamer("toys", "--seeds", 0).err == "error: --seeds: at least 1 expected, found 0\n"


def test_features_truth_says_what_reconstructs_best(gossamer, tmp_path, monkeypatch):
    from gossamer.toys import features_truth
    from gossamer.toys.synthetic_world import WorldConfig

    world = WorldConfig(features=40, d=8, roots=1, branching=2, depth=1, orthogonal_steps=0)
    small = features_truth.FeaturesTruthSettings(
        world, seeds=1, n_latents=32, l0s=(1,), l1=(1.0,), samples=128, batch=64, chosen_on=64, scored_on=64
    )
    monkeypatch.setattr(features_truth, "quick", lambda: small)
    asked = ("features-truth", "--quick", "--l0", "2", "--device", "cpu", "--out", tmp_path / "out")
    found = json.loads(gossamer(*asked, "--json").out)
    assert {one["target"] for one in found["scored"]} == {2}
    assert found["settings"]["world"]["features"] == 40
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"results.json", "tables.md", "features.png"}
    said, last = gossamer(*asked).out.strip().splitlines()
    assert said.startswith("At an L0 of 2 ")
    assert last.startswith("wrote ")
    for given, message in (
        (("--quick", "--full"), "one of --quick and --full expected, found both"),
        (("--seeds", 0), "--seeds: at least 1 expected, found 0"),
        (("--l0", "5;7"), "--l0: expected numbers as 2,4,6, found '5;7'"),
        (("--quick", "--device", "abc"), "device 'abc' cannot be used"),
    ):
        refused = gossamer("features-truth", *given)
        assert refused.code == 2
        assert refused.err.startswith(f"error: {message}")


def test_relations_truth_writes_its_tables(gossamer, tmp_path, monkeypatch):
    from gossamer.toys import relations_truth
    from gossamer.toys.planted_relations import PlantedSettings

    small = relations_truth.TruthSettings(planted=PlantedSettings(each=1, vocabulary=512, positions=16), causal_rows=2)
    cases = [relations_truth.TruthCase("true", 1.0, 512)]
    monkeypatch.setattr(relations_truth, "quick_truth", lambda: (small, cases))
    asked = ("relations-truth", "--quick", "--seeds", 1, "--out", tmp_path / "out")
    (found,) = json.loads(gossamer(*asked, "--json").out)["scored"]
    assert found["case"] == {"dictionaries": "true", "quality": 1.0, "tokens": 512}
    assert found["recovered"] == 1
    assert gossamer(*asked).out.startswith("1 model scored; wrote ")
    assert "| all gates |" in (tmp_path / "out" / "tables.md").read_text()
    assert gossamer("relations-truth", "--seeds", 0).err == "error: --seeds: at least 1 expected, found 0\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--method", "top_k"], "--method: one of gradient, orthogonal, matching expected among them, found top_k"),
        (["--rows", "2"], "--rows: fewer than the 2 texts of"),
    ],
)
def test_pursuit_refuses_what_would_fail_after_the_work(no_model, gossamer, tmp_path, given, said):
    text = tmp_path / "text.txt"
    text.write_text("one\n\ntwo")
    refused = gossamer("pursuit", "bundled:spool", "-d", tmp_path, "--text", text, *given)
    assert refused.code == 2
    assert said in refused.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_output_that_cannot_be_written_is_one_line(options):
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", "from gossamer.cli import run; run()", "tasks", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: standard output: could not be written (No space left on device)")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("toys", "--quick"),
        (*SPOOL, "--prompts", "64"),
        ("pursuit", "bundled:spool", "-d", str(bundled.path("spool") / "dictionaries" / "resid_post.2"), "--rows", "1"),
    ],
)
def test_two_studies_in_one_folder_are_refused(gossamer, tmp_path, command):
    text = tmp_path / "text.txt"
    text.write_text("The boy is here.\n\nThe girl is here.")
    given = ("--text", text) if command[0] == "pursuit" else ()
    with folder_lock(tmp_path / "out"):
        refused = gossamer(*command, *given, "--out", tmp_path / "out")
    assert refused.code == 2
    assert "out: another process is at work there" in refused.err


def test_a_csv_file_is_a_task(gossamer, tmp_path):
    rows = [f"The {a},The {b},{x},{y}" for a, b, x, y in (("boy", "boys", "is", "are"), ("girl", "girls", "is", "are"))]
    rows += [f"The {b},The {a},{y},{x}" for a, b, x, y in (("man", "men", "is", "are"), ("kid", "kids", "is", "are"))]
    path = tmp_path / "agreement.csv"
    path.write_text("\n".join(["clean,corrupted,answer,wrong", *rows]))
    found = gossamer("tasks", path, "--metric", "prob_diff", "--roles", "diff", "--json")
    assert (found.code, found.err) == (0, "")
    said = json.loads(found.out)
    assert (said["name"], said["metric"], said["roles"][-1]) == ("agreement", "prob_diff", "differs1")
    missing = gossamer("tasks", tmp_path / "none.csv")
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "no such file; give the path of an existing file of prompts (JSON, JSON lines or CSV)" in missing.err
