"""`gossamer trace`: the tree on the terminal, JSON, a file, and requests refused before a model is loaded."""

import json

import pytest
from typer.testing import CliRunner

from gossamer import cli
from gossamer.attention import TraceResult
from gossamer.errors import UsageError
from gossamer.model import LanguageModel

ASKED = ["trace", "bundled:spool", "-p", "The boys near the dog", "--answer", " are", "--wrong", " is", "--nodes", "6"]


def test_the_tree_and_the_file(tmp_path):
    path = tmp_path / "trace.json"
    picture = tmp_path / "check.svg"
    result = CliRunner().invoke(cli.app, [*ASKED, "--check", "--out", str(path), "--figure", str(picture)])
    assert result.exit_code == 0
    assert picture.read_text().startswith("<svg")
    assert "logit difference" in result.stdout
    assert "mlp_out.3@" in result.stdout
    assert "patterns live: rank correlation" in result.stdout
    assert len(TraceResult.load(path).trace.nodes) == 6
    printed = CliRunner().invoke(cli.app, [*ASKED, "--json"])
    tree = json.loads(printed.stdout)
    assert [node["contribution"] for node in tree["nodes"]] == [
        pytest.approx(node.contribution) for node in TraceResult.load(path).trace.nodes
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the two expected"),
        (["-p", "a", "-t", "ioi"], "one of the two expected"),
        (["-t", "ioi", "--latent", "z.5/1"], "a task has answers of its own"),
        (["-p", "a", "--figure", "a.png"], "beside --check expected"),
        (["-p", "a", "--check", "--figure", "a.gif"], "a .png or .svg beside --check"),
        (["-p", "a", "--nodes", "0"], "--nodes: at least 1"),
        (["-p", "a", "--latent", "z5"], "'z5' is no feature"),
    ],
)
def test_what_cannot_be_meant_is_refused_first(arguments, message, monkeypatch):
    monkeypatch.setattr(LanguageModel, "load", None)
    result = CliRunner().invoke(cli.app, ["trace", "bundled:spool", *arguments])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
