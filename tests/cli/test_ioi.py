"""`gossamer ioi`: what it prints and writes, and requests refused before a model is loaded."""

import json

import pytest
from typer.testing import CliRunner

from gossamer import cli
from gossamer.attention.ioi import IOIStudy
from gossamer.errors import GossamerError, UsageError
from gossamer.model import LanguageModel

ASKED = ["ioi", "bundled:spool", "-n", "8", "--layers", "1", "--templates", "store_gave,garden_gave"]


def test_heads_without_dictionaries(tmp_path):
    asked = [*ASKED, "--connectives", "or", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.app, asked)
    assert result.exit_code == 0
    assert "Single heads patched from the swapped prompt" in result.stdout
    assert "no dictionaries on z: latents were not looked at" in result.stdout
    study = IOIStudy.load(tmp_path)
    assert list(study.parts) == ["ability", "patching", "paths", "noising"]
    assert {path.name for path in tmp_path.iterdir()} == {"ioi.json", "tables.md", "heads.png", "noising.png"}
    # Everything is there: nothing is computed again.
    printed = json.loads(CliRunner().invoke(cli.app, [*asked, "--json"]).stdout)
    assert printed["settings"]["connectives"] == [" or"]
    assert printed["parts"]["heads"][0]["reported"]["value"] == study.found.heads[0].reported.value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "0"], "layers: at least 1 expected, found 0"),
        (["-d", "nowhere"], "nowhere: no such file or folder"),
        (["--text", "nothing.txt"], "nothing.txt: no such file"),
        (["-n", "4"], "prompts: at least 8 expected, found 4"),
    ],
)
def test_what_cannot_be_meant_is_refused_first(arguments, message, monkeypatch):
    monkeypatch.setattr(LanguageModel, "load", None)
    result = CliRunner().invoke(cli.app, ["ioi", "bundled:spool", *arguments])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_model_that_cannot_do_the_task_is_refused_in_one_line(tiny, tmp_path):
    result = CliRunner().invoke(cli.app, ["ioi", str(tiny), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, GossamerError)
    assert "accuracy of 75% and a positive logit difference expected, found 0 of 12" in str(result.exception)
