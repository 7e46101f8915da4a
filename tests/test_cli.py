"""The command line: exit codes, one-line errors, help that reads, JSON that parses."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gossamer import cli
from gossamer.errors import GossamerError, UsageError

COMMANDS = ("demo", "circuit", "tasks", "train", "check")


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from gossamer.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    found = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert found.exit_code == 0
    assert len(found.output.splitlines()) > 5


def test_help_does_not_load_torch():
    code = "import sys; from gossamer import cli; assert 'torch' not in sys.modules, 'torch was loaded'"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("error", "code"), [(UsageError("wrong"), 2), (GossamerError("failed"), 1)])
def test_errors_are_one_line_with_their_exit_code(monkeypatch, capsys, error, code):
    def fail(**_):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code
    shown = capsys.readouterr()
    assert shown.err.strip() == f"error: {error}"
    assert shown.out == ""


@pytest.mark.slow
def test_a_users_mistakes_end_in_exit_code_2_without_a_traceback():
    for arguments in (
        ("circuit", "no/such/folder", "-t", "ioi"),
        ("tasks", "no-such-task"),
        ("circuit",),
        ("nonsense",),
    ):
        found = run(*arguments)
        assert found.returncode == 2, found.stderr
        assert "Traceback" not in found.stderr


def test_wrong_choices_are_named():
    with pytest.raises(UsageError, match=r"--ablation: expected one of mean, zero, resample, found 'nothing'"):
        cli._choice("--ablation", "nothing", ("mean", "zero", "resample"))
    with pytest.raises(UsageError, match=r"--layers: expected numbers as 2,4,6, found '2;4'"):
        cli._numbers("--layers", "2;4")
    assert cli._numbers("--layers", "2, 4,6") == [2, 4, 6]


def test_tasks_are_listed():
    found = CliRunner().invoke(cli.app, ["tasks"])
    assert found.exit_code == 0
    for name in ("ioi", "sva-rc", "code-key"):
        assert name in found.output


def test_json_is_one_object(capsys):
    cli._print_json({"nodes": 3, "faithfulness": 0.9})
    assert json.loads(capsys.readouterr().out) == {"nodes": 3, "faithfulness": 0.9}
