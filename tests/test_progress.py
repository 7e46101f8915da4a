"""Progress is silent in a library call and shown with rate and time left when asked for."""

import io

from rich.console import Console

from gossamer import progress


def test_nobody_listens_by_default(capsys):
    assert list(progress.track(range(3), "work", 3)) == [0, 1, 2]
    progress.begin("more", 2)(1, "note")
    assert capsys.readouterr() == ("", "")


def test_bars_name_the_work_and_how_far_it_is():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with progress.shown(console):
        advance = progress.begin("mask search", 4)
        advance(2, "12 nodes")
        advance(2, "5 nodes")
    shown = text.getvalue()
    assert "mask search" in shown
    assert "4/4" in shown
    assert "5 nodes" in shown
    assert "/s" in shown


def test_bars_end_with_their_block():
    with progress.shown(Console(file=io.StringIO())):
        pass
    assert progress.begin("work", 1)(1, "") is None


def test_work_inside_of_a_step_is_not_announced():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress.shown(console):
        with progress.silenced():
            progress.begin("inner", 2)(1, "")
        progress.begin("outer", 2)(1, "")
    assert "outer" in console.file.getvalue()
    assert "inner" not in console.file.getvalue()
