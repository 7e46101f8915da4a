"""`gossamer explore`: the page and its data, and requests refused before a model is loaded."""

import json

import pytest
from typer.testing import CliRunner

from gossamer import cli
from gossamer.attention import AttributionData
from gossamer.errors import UsageError
from gossamer.model import LanguageModel


def test_the_page_and_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Where other commands write, so that the workbench shows it.
    page = tmp_path / "gossamer-out" / "explore" / "explore.html"
    asked = ["explore", "bundled:spool", "--latents", "1"]
    prompt = ["-p", "The boys near the dog", "--answer", " are", "--wrong", " is"]
    result = CliRunner().invoke(cli.app, [*asked, *prompt])
    assert result.exit_code == 0
    assert "page: " in result.stdout
    data = AttributionData.load(page.with_suffix(".json"))
    assert data.prompts[0].target == "logit difference, ' are' over ' is'"
    assert data.limits.latents == 1
    assert "<title>How information moved in bundled:spool</title>" in page.read_text()
    printed = CliRunner().invoke(cli.app, [*asked, "-t", "sva-rc", "-n", "2", "--json"])
    found = json.loads(printed.stdout)
    assert found["functions"] == [len(one.functions) for one in AttributionData.load(found["data"]).prompts]
    assert len(found["functions"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the two expected"),
        (["-p", "a", "-t", "ioi"], "one of the two expected"),
        (["-t", "ioi", "--answer", " a"], "a task has answers of its own"),
        (["-p", "a", "--latents", "0"], "--latents: at least 1"),
        (["-p", "a", "--out", "page.txt"], "ends in .html"),
        (["-p", "a", "-d", "no-such-folder"], "no such file or folder"),
        (["-p", "a", "--store", "nowhere"], "a feature store expected, found no store.json"),
        (["-p", "a", "--latent", "z5"], "'z5' is no feature"),
    ],
)
def test_what_cannot_be_meant_is_refused_first(arguments, message, monkeypatch):
    monkeypatch.setattr(LanguageModel, "load", None)
    result = CliRunner().invoke(cli.app, ["explore", "bundled:spool", *arguments])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
