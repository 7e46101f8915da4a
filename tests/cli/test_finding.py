"""`gossamer circuit`: what is said where measuring stops, of what a report lacks, and what is refused early."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gossamer import cli
from gossamer.cli import early, finding
from gossamer.model.language_model import LanguageModel
from gossamer.tasks import get


def test_a_stop_says_that_the_same_command_goes_on(capsys):
    with pytest.raises(KeyboardInterrupt), finding._said_if_stopped(Path("out")):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == (
        "the circuit is in out/circuit.json; the same command goes on with measuring it\n"
    )


def test_what_a_report_lacks_is_said_with_how_it_is_added(capsys):
    finding._say_what_more(True, True, False)
    said = capsys.readouterr().err
    for option in ("--compare all", "--reruns 2", "--control shuffled-latents"):
        assert option in said
    finding._say_what_more(False, True, True)
    said = capsys.readouterr().err
    assert "--reruns 2" in said
    assert "--compare" not in said
    finding._say_what_more(False, False, True)
    assert capsys.readouterr().err == ""


def test_the_report_comes_with_the_command_that_opens_the_run(capsys):
    finding._say_where(Path("two words/report.html"))
    assert capsys.readouterr().out.splitlines() == [
        "report: two words/report.html",
        "look around in it: gossamer view 'two words'",
    ]


def test_words_for_methods():
    assert early.methods(["all"]) is None
    assert early.methods(["none"]) == []
    assert early.methods(["mask", "random"]) == ["mask", "random"]


def test_unseen_templates_that_the_model_cannot_do_are_refused_before_a_search(tmp_path):
    tokenizer = LanguageModel.load("bundled:spool").tokenizer
    file = get("ioi").generate(tokenizer, n=80, seed=1, bos=True).write_prompts(tmp_path / "prompts.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    template = rows[0]["template"]
    for row in rows:
        if row["template"] == template:
            row["answer"], row["wrong"] = row["wrong"], row["answer"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = ["-t", str(file), "--unseen-templates", template, "--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(cli.app, ["circuit", "bundled:spool", *asked])
    assert refused.exit_code == 1
    assert str(refused.exception).startswith(f"unseen templates {template}: bundled:spool cannot do ")
    assert str(refused.exception).endswith("or set other templates aside")
    assert not list((tmp_path / "run").glob("*.json"))
