"""The help of commands: an example each that the command line understands, and long lists of options in panels."""

import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gossamer import cli
from gossamer.cli.help import _MEANT, _MORE, EXAMPLE, PANELS


def commands():
    """Every command with what comes before its arguments."""
    for name, one in get_command(cli.app).commands.items():
        yield from (((name, sub), each) for sub, each in one.commands.items()) if name == "store" else [((name,), one)]


ALL = dict(commands())


def parameters(command):
    """As its help shows them: options with the panel that each is in."""
    context = command.make_context(command.name, ["x"] * 3, resilient_parsing=True)
    return [one for one in command.get_params(context) if one.param_type_name == "option"]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_an_example_that_it_understands(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [line for line in ALL[words].help.splitlines() if line.strip().startswith(EXAMPLE)]
    assert lines
    for line in lines:
        label, program, *given = shlex.split(line)
        assert (label, program) == ("Example:", "gossamer")
        assert tuple(given[: len(words)]) == words
        # Parsed, with what options refuse by themselves, and not run.
        ALL[words].make_context(words[-1], given[len(words) :])


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_speaks_json(words):
    assert {"--json", "--help"} <= {name for one in parameters(ALL[words]) for name in one.opts}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_options_of_a_long_help_are_all_in_panels(words):
    found = parameters(ALL[words])
    panels = [one.rich_help_panel for one in found]
    if len(found) <= 9:
        assert set(panels) == {None}
        return
    assert None not in panels, [one.name for one in found if one.rich_help_panel is None]
    assert len(set(panels)) > 1
    # In the order of the table, each panel once.
    assert [name for name in (*PANELS, _MORE) if name in panels] == list(dict.fromkeys(panels))


def test_no_name_in_the_tables_is_one_that_no_command_has():
    used = {one.name for command in ALL.values() for one in parameters(command)}
    assert {name for names in PANELS.values() for name in names} <= used
    own = {(command.name, one.name) for command in ALL.values() for one in parameters(command)}
    assert set(_MEANT) <= own
    assert set(_MEANT.values()) <= set(PANELS)


def test_paragraphs_of_a_help_are_whole():
    *found, _ = ALL["circuit",].help.split("\n\n")
    assert all("\n" not in paragraph for paragraph in found)
    assert len(ALL["steer",].help.split("\n\n")[-1].splitlines()) == 2


def test_what_to_run_first_stands_in_the_first_ten_lines():
    shown = CliRunner().invoke(cli.app, [], env={"COLUMNS": "80", "TERM": "dumb"}).output
    first = [line.strip() for line in shown.splitlines() if line.strip()][:10]
    begun = [line.split("  ")[0] for line in first if line.startswith("gossamer ")]
    assert begun[:2] == ["gossamer demo", "gossamer view gossamer-out/demo"]
    for line in begun:
        name = line.split()[1]
        assert name == "COMMAND" or (name,) in ALL
    # No line of them is broken.
    assert all("  " in line for line in first[2:7])
