"""The notebooks run from their first cell to their last, and are stored as nothing has run yet."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def cells(path, kind="code"):
    return [one for one in json.loads(path.read_text(encoding="utf-8"))["cells"] if one["cell_type"] == kind]


def shown(source, names):
    """Run a cell; the value of its last line, as a notebook shows it."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(last, "cell", "eval"), names)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, values = {}, []
    for cell in cells(path):
        values.append(shown("".join(cell["source"]), names))
    for value in values:
        if hasattr(value, "_repr_html_"):
            assert value._repr_html_()
    said = capsys.readouterr().out
    claims = {
        "first_circuit": lambda: (
            (tmp_path / "first-circuit" / "report.html").is_file()
            and names["findings"].budget[-2].faithfulness.value > 0.6
        ),
        "dictionaries": lambda: (tmp_path / "my-dictionaries").is_dir() and "random directions" in said,
        "steering": lambda: "the latent, 2.0: are" in said,
    }
    assert claims[path.stem]()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_nothing_has_run(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["nbformat"] == 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path))
    assert cells(path, "markdown")[0]["source"][0].startswith("# ")
    assert path.stat().st_size < 20_000


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["dictionaries", "first_circuit", "steering"]
