"""Every benchmark takes --quick and --json, prints JSON alone when asked for it, and the one for a GPU runs without."""

import ast
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gossamer import bundled
from gossamer.circuits.adversarial.results import NAMES
from gossamer.circuits.curve import SizeComparison
from gossamer.circuits.methods import ASKED_FOR
from gossamer.circuits.study import Study
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.dictionary.pursuit import pursue
from gossamer.dictionary.slopes import DecoderRows
from gossamer.statistics import Interval
from gossamer.tasks.lexicon import SUBJECTS

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())
ROW = {"what", "ours", "theirs", "unit", "ratio", "target", "holds", "cautions"}


@pytest.fixture
def ran(monkeypatch, capsys):
    """Run a script as the command line does, in this process: exit code, and what it printed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run(script, *options):
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, options)])
        code = 0
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def imported(monkeypatch):
    """A benchmark as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The options of a model of one's own with two files of prompts: enough.jsonl, and few.jsonl with 4 held out."""
    folder = tmp_path_factory.mktemp("own")
    for name, nouns in (("enough", 20), ("few", 8)):
        rows = [
            {"clean": f"The {one[here]}", "counterfactual": f"The {one[not here]}", "answer": verbs[here],
             "wrong": verbs[not here], "roles": {"noun": [[4, 4 + len(one[here])]]},
             "counterfactual_roles": {"noun": [[4, 4 + len(one[not here])]]}}
            for one in SUBJECTS[:nouns] for here, verbs in ((0, (" is", " are")), (1, (" is", " are")))
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("--model", "bundled:spool", "-d", bundled.path("spool") / "dictionaries")
    return SimpleNamespace(given=given, enough=folder / "enough.jsonl", few=folder / "few.jsonl")


@pytest.fixture(scope="module")
def quality(own):
    """circuit_quality.py on both files: its rows, and what it says beside them."""
    command = [sys.executable, BENCHMARKS / "circuit_quality.py", *own.given, "-t", own.enough, "-t", own.few]
    ran = subprocess.run(
        [*map(str, command), "--quick", "--steps", "5", "--compare", "random", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return json.loads(ran.stdout), ran.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_takes_quick_and_json(ran, script):
    if script.stem.startswith("jax_"):
        pytest.importorskip("jax")
    code, said, _ = ran(script, "--help")
    assert code == 0
    options = set(re.findall(r"--[\w-]+", said))
    assert {"--quick", "--json"} <= options
    # What pages show of a script exists.
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), script):
        for shown in re.findall(rf"benchmarks/{script.name}((?: +[^`\n]+)?)", page.read_text()):
            assert set(re.findall(r"(?<![\w-])--[\w-]+", shown)) <= options, page


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_rows_alone_go_to_standard_output(path):
    """Whatever else is printed goes through `rows.say`, which knows of --json, or to the other stream."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    printed = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert path.name == "rows.py" or all("file" in {word.arg for word in call.keywords} for call in printed)


def test_json_is_all_that_is_printed(ran):
    code, said, beside = ran(BENCHMARKS / "circuit_memory.py", "--quick", "--json")
    assert code == 0
    assert all(found.keys() == ROW for found in json.loads(said))
    assert "what stays" in beside


def test_circuits_of_your_own_model_are_compared_at_every_size(quality):
    rows, _ = quality
    assert all(found.keys() == ROW for found in rows)
    found = [one for one in rows if one["what"].startswith("bundled:spool enough: ")]
    named = [re.fullmatch(r".*: (\d+) nodes, (random|chosen on validation)", one["what"]).groups() for one in found]
    assert {size for size, method in named if method == "random"} > {"5", "10", "20", "40", "100"}
    assert len(set(named)) == len(found)
    for one in found:
        assert one["unit"] == "closeness"
        assert one["ours"] <= 1
        assert one["theirs"] <= 1
        assert one["cautions"] == []
        assert one["holds"] or one["ours"] < one["theirs"]
    assert sum(one["holds"] for one in found) > len(found) / 2


def test_with_few_held_out_texts_nothing_is_said_to_hold(quality):
    rows, beside = quality
    sentence = "bundled:spool few: The held-out prompts are 4 different texts: intervals over fewer than 10 say little"
    assert f"CAUTION: {sentence}" in beside
    assert "bundled:spool enough: The held-out prompts" not in beside
    of_few = [one for one in rows if "bundled:spool enough: " not in one["what"]]
    # With those that count the rows of all tasks, three each by value and by interval.
    assert sum("rows of closeness beside" in one["what"] for one in of_few) == 6 < len(of_few)
    for one in of_few:
        assert one["holds"] is None
        assert [caution[: len(sentence)] for caution in one["cautions"]] == [sentence]


@pytest.mark.parametrize("script", ["unseen_words", "circuit_bounds"])
def test_other_benchmarks_caution_of_few_texts_too(monkeypatch, capsys, imported, own, script):
    module = imported(script)
    made = imported("rows").row("some row", 1.0, 2.0, "nodes", "reported", True)
    monkeypatch.setattr(module, "rows", lambda *given: iter([made]))
    if script == "circuit_bounds":
        monkeypatch.setattr(module, "bound", lambda *given: None)
    for file, count in ((own.few, 1), (own.enough, 0)):
        monkeypatch.setattr(sys, "argv", [script, *map(str, own.given), "-t", str(file), "--quick", "--json"])
        module.main()
        said, beside = capsys.readouterr()
        (found,) = json.loads(said)
        assert beside.count("CAUTION: bundled:spool few: The held-out prompts are 4 different texts") == count
        assert len(found["cautions"]) == count
        assert found["holds"] is (None if count else True)


def test_rows_without_a_finding_are_printed_with_their_caution(capsys, imported):
    rows = imported("rows")
    good = rows.row("good", 1.0, 2.0, "nodes", "less", True)
    rows.show([good, *rows.cautioned([good], ["few: so few"]), *rows.cautioned([good], [])], False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("less")[-1].strip() for line in lines[:3]] == ["holds", "no finding", "holds"]
    assert lines[3:] == ["CAUTION: few: so few"]


def test_what_takes_minutes_is_compared_when_asked_for(imported, own):
    module = imported("circuit_quality")
    setting = imported("settings").own(own.given[1], [own.given[3]], [own.few])
    study = Study(setting.model, setting.dictionaries, setting.tasks["few"])
    asked = {"compare": None, "greedy": False, "quick": False}
    found = module.others(study, Namespace(**asked))
    assert {"reference recipe", "random", "EAP-IG inputs"} <= set(found)
    assert not {"mask", *ASKED_FOR} & set(found)
    assert module.others(study, Namespace(**asked | {"greedy": True})) == [*found, "greedy"]
    synergy = asked | {"compare": ["FAP-Synergy"]}
    assert module.others(study, Namespace(**synergy)) == ["FAP-Synergy"]


def test_sizes_that_hold_are_counted_where_that_is_a_finding(imported):
    nearest = imported("circuit_quality").nearest
    ahead, behind = (Interval(0.1 * sign, 0.1 * sign - 0.05, 0.1 * sign + 0.05) for sign in (1, -1))
    rows = [
        SizeComparison(size, size, "random", "random", 0.8, 0.8 - gap.value, gap)
        for size, gap in ((20, ahead), (10, behind))
    ]
    assert [one["what"] for one in nearest("t", rows, False)] == ["t: random (1 of 2 sizes hold; 10 nodes)"]
    assert [one["what"] for one in nearest("t", rows, True)] == ["t: random (2 sizes; 10 nodes)"]


def test_a_cell_has_accuracy_and_error_and_marks_what_exceeds_the_dictionaries(imported):
    cell = imported("circuit_quality").cell

    def metrics(to_dictionaries):
        share = Interval(0.9, 0.85, 0.95)
        error = Interval(0.234, 0.2, 0.3)
        return TaskMetrics("mask", share, share, Interval(to_dictionaries, 0.5, 1.5), 0.75, 0.5, 0.125, error)

    assert cell(metrics(0.9)) == "0.900 [0.85, 0.95], 0.12, 75\u202f%, 0.23"
    assert cell(metrics(1.1)) == "0.900 [0.85, 0.95]†, 0.12, 75\u202f%, 0.23"


def test_time_and_memory_of_your_own_model_are_measured(monkeypatch, capsys, imported, own):
    module = imported("circuit_speed")
    # Processes of their own would take most of the time.
    monkeypatch.setattr(module, "in_process", module.measured)
    options = (*own.given, "-t", own.few, "--quick", "--steps", 5, "--compare", "integrated gradients", "--json")
    monkeypatch.setattr(sys, "argv", ["circuit_speed.py", *map(str, options)])
    module.main()
    rows = json.loads(capsys.readouterr().out)
    assert all(found.keys() == ROW for found in rows)
    assert {found["what"] for found in rows} == {"bundled:spool few: whole path, integrated gradients"}
    assert [found["unit"] for found in rows] == ["s", "MiB peak"]
    assert all(found["ours"] > 0 and found["theirs"] > 0 for found in rows)


def test_prompts_that_break_your_own_model_are_sought_with_its_own_circuit(monkeypatch, capsys, imported, own):
    module, found = imported("adversarial"), []

    def find(model, dictionaries, task, *, size, search):
        found.append((task.name, len(task.train) + len(task.test), size, len(dictionaries)))
        return SimpleNamespace(circuit="the circuit")

    def study(circuit, model, dictionaries, *, settings):
        assert circuit == "the circuit"
        arms = [SimpleNamespace(letter=one, name=one, share=0, recipe=(), held_out=[True]) for one in NAMES]
        rest = [SimpleNamespace(letter="A", ahead=False)]
        return SimpleNamespace(
            verdict="",
            arms=arms,
            comparisons=rest,
            task="t",
            model="m",
            arm=lambda letter: arms["ABCDEF".index(letter)],
        )

    monkeypatch.setattr(module, "find_circuit", find)
    monkeypatch.setattr(module, "adversarial_study", study)
    command = ["adversarial.py", *map(str, own.given), "-n", "40", "--size", "7", "--quick", "--json"]
    monkeypatch.setattr(sys, "argv", [*command, "-t", "code-index", "-t", "ioi"])
    module.main()
    assert [one["what"] for one in json.loads(capsys.readouterr().out)] == ["t, m: circuit beside A"] * 2
    assert found == [("code-index", 40, 7, 3), ("ioi", 40, 7, 3)]
    # Of a file nobody knows the right answers after an edit: refused in one line, before any search.
    monkeypatch.setattr(sys, "argv", [*command, "-t", "ioi", "-t", str(own.few)])
    with pytest.raises(SystemExit, match=r"^adversarial\.py: task few: .* expected \(ioi, .*; find a circuit for"):
        module.main()
    assert len(found) == 2


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("circuit_quality", ("--model", "gpt2"), r"--model: one of bundled, .* or dictionaries \(-d\), found gpt2"),
        ("unseen_words", ("-d", "somewhere"), r"--model: with -d the name .* of a model expected .*, found bundled"),
        ("circuit_bounds", ("--task", "nothing"), r"--task: one that bundled has expected, found nothing; .* need -d"),
    ],
)
def test_models_and_tasks_that_do_not_fit_are_refused_in_one_line(ran, script, options, said):
    code, out, _ = ran(BENCHMARKS / f"{script}.py", *options)
    assert re.fullmatch(rf"{script}\.py: {said}", code)
    assert out == ""


def test_a_tool_that_is_not_installed_is_named_beside_the_rows(monkeypatch, capsys):
    pytest.importorskip("jax")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    jax_peers = importlib.import_module("jax_peers")

    def absent(size):
        raise ImportError("no module of this name")

    for tool in ("flax_sow", "equinox_tree_at", "penzai_insert"):
        monkeypatch.setattr(jax_peers, tool, absent)
    assert jax_peers.peers(None) == []
    said, beside = capsys.readouterr()
    assert said == ""
    assert "absent: left out, no module of this name" in beside


def test_the_plain_pursuit_that_ours_is_measured_beside_is_the_same_pursuit(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    plain = runpy.run_path(str(BENCHMARKS / "pursuit.py"))["plain_pursuit"]
    generator = torch.Generator().manual_seed(0)
    decoder, x = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((60, 12), (50, 12)))
    decoder /= decoder.norm(dim=1, keepdim=True)
    torch.testing.assert_close(plain(x, decoder, 9), pursue(x, DecoderRows.of(decoder), 9).dense())


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_without_one_and_goes_on_where_it_stopped(ran, tmp_path):
    pytest.importorskip("jax")
    pytest.importorskip("triton", reason="Triton is not made for this system")
    script, out, page = BENCHMARKS / "gpu.py", tmp_path / "gpu.json", tmp_path / "gpu.md"
    dry = ("--dry-run", "--json", "--out", out, "--docs", page)
    code, said, _ = ran(script, *dry, "--only", "kernels", "--only", "search")
    assert code == 0
    first = json.loads(said)
    assert {found.keys() == ROW for found in first} == {True}
    exact = [found for found in first if found["unit"] == "rel. error"]
    assert len(exact) == 6
    assert all(found["holds"] for found in exact)
    (tmp_path / "model").mkdir()
    code, said, beside = ran(script, *dry, "--model", tmp_path / "model")
    assert "kernels: measured already" in beside
    assert "search: measured already" in beside
    # A folder without a model fails in one line, and what comes before and after it is there.
    assert code == 1
    assert re.search(r"^smollm2: failed: \w+Error: .+$", beside, re.MULTILINE)
    found = json.loads(said)
    assert found[: len(first)] == first
    assert {"JAX", "topk, float32"} <= {re.split(r" on |:", row["what"])[0] for row in found}
    text = page.read_text()
    assert "## kernels (" in text
    assert "- smollm2: " in text


def test_a_gpu_that_is_not_there_is_said_in_one_line(ran, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    code, said, _ = ran(BENCHMARKS / "gpu.py", "--out", tmp_path / "gpu.json")
    assert (code, said) == ("gpu.py: a GPU expected, found none; --dry-run tries everything on the CPU", "")


def test_results_of_another_scale_are_refused(ran, tmp_path):
    out = tmp_path / "gpu.json"
    out.write_text(json.dumps({"machine": {"scale": "full"}, "parts": {}, "failed": {}}))
    code, said, _ = ran(BENCHMARKS / "gpu.py", "--dry-run", "--out", out)
    assert re.fullmatch(r"gpu\.py: .*results of .*'dry-run'.* expected, found those of .*; give another --out", code)
    assert said == ""
