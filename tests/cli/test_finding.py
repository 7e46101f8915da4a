"""`gossamer circuit`: what is said where measuring stops, and of what a report lacks."""

from pathlib import Path

import pytest

from gossamer.cli import early, finding


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
