"""Every benchmark takes --quick and --json, prints JSON alone when asked for it, and the one for a GPU runs without."""

import ast
import importlib
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from gossamer.dictionary.pursuit import pursue
from gossamer.dictionary.slopes import DecoderRows

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())
ROW = {"what", "ours", "theirs", "unit", "ratio", "target", "holds"}


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
