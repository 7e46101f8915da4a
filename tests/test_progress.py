"""Progress is silent in a library call and shown with rate and time left when asked for."""

import io
import itertools
import sys
import types

from rich.console import Console

from gossamer import progress


def test_nobody_listens_by_default(capsys):
    assert list(progress.track(range(3), "work", 3)) == [0, 1, 2]
    progress.begin("more", 2)(1, "note")
    assert capsys.readouterr() == ("", "")


def test_bars_name_the_work_and_how_far_it_is():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with progress.progress_bars(console):
        advance = progress.begin("mask search", 4)
        advance(2, "12 nodes")
        advance(2, "5 nodes")
    shown = text.getvalue()
    assert "mask search" in shown
    assert "4/4" in shown
    assert "5 nodes" in shown
    assert "/s" in shown


def test_bars_end_with_their_block():
    with progress.progress_bars(Console(file=io.StringIO())):
        pass
    assert progress.begin("work", 1)(1, "") is None


def test_work_that_comes_again_has_one_bar():
    text = io.StringIO()
    with progress.progress_bars(Console(file=text, force_terminal=True, width=120)):
        for _ in range(30):
            progress.begin("measuring", 2)(2, "")
        under_way = [progress.begin("searching", 2) for _ in range(2)]
        under_way[0](1, "")
    last = text.getvalue().split("measuring")[-1]
    assert last.count("searching") == 2
    # Each time that the bars are drawn there are at most three of them.
    frames = text.getvalue().split("\x1b[2K")
    assert max(frame.count("measuring") for frame in frames) == 1


def test_work_that_is_done_several_times_says_which_time_it_is():
    for terminal in (True, False):
        text = io.StringIO()
        with progress.progress_bars(Console(file=text, force_terminal=terminal, width=120)):
            with progress.part_of("ioi (task 1 of 2)"), progress.part_of("sample 2 of 5"):
                progress.begin("mask search", 2)(2, "")
            progress.begin("writing", 1)(1, "")
        assert "ioi (task 1 of 2), sample 2 of 5: mask search" in text.getvalue()
        assert "sample 2 of 5: writing" not in text.getvalue()


def test_the_same_work_of_another_part_takes_the_bar_of_the_last():
    text = io.StringIO()
    with progress.progress_bars(Console(file=text, force_terminal=True, width=120)):
        for number in range(30):
            with progress.part_of(f"sample {number}"):
                progress.begin("searching", 2)(2, "")
    assert max(frame.count("searching") for frame in text.getvalue().split("\x1b[2K")) == 1


def test_work_inside_of_a_step_is_not_announced():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress.progress_bars(console):
        with progress.silenced():
            progress.begin("inner", 2)(1, "")
        progress.begin("outer", 2)(1, "")
    assert "outer" in console.file.getvalue()
    assert "inner" not in console.file.getvalue()


def test_the_latest_numbers_stand_under_the_bars_on_a_terminal_alone():
    rows = [{"dictionary": "resid_post.3", "loss": "0.125"}, {"dictionary": "mlp_out.3", "loss": "0.25"}]
    shown = {}
    for terminal in (True, False):
        text = io.StringIO()
        with progress.progress_bars(Console(file=text, force_terminal=terminal, width=120)):
            advance = progress.begin("training", 4)
            progress.show_table([{"dictionary": "resid_post.3", "loss": "9.5"}])
            advance(4, "")
            progress.show_table(rows)
        shown[terminal] = text.getvalue()
    assert "training" in shown[True]
    last = shown[True].split("4/4")[-1]
    for word in ("dictionary", "loss", "resid_post.3", "0.125", "mlp_out.3", "0.25"):
        assert word in last
        assert word not in shown[False]
    assert "9.5" not in last


def test_numbers_go_nowhere_when_nobody_listens(capsys):
    progress.show_table([{"dictionary": "one"}])
    assert capsys.readouterr() == ("", "")


class _Log:
    """Plain lines under a clock that stands still unless it is moved."""

    def __init__(self):
        self.now, self.lines = 0.0, []
        self.reporter = progress.PlainLines(self.lines.append, lambda: self.now)

    def after(self, seconds):
        self.now += seconds
        self.reporter.look()
        return self.lines


def test_off_a_terminal_work_is_named_when_it_begins():
    text = io.StringIO()
    with progress.progress_bars(Console(file=text, width=40)):
        progress.begin("capturing activations of a model with a long name", 1200)
        progress.announce(lambda: "about 3 minutes")
        assert text.getvalue() == "capturing activations of a model with a long name: 0 of 1,200\nabout 3 minutes\n"


def test_off_a_terminal_lines_come_ever_more_rarely_also_while_one_step_lasts():
    log = _Log()
    advance = log.reporter.begin("work", 100)
    assert log.lines == ["work: 0 of 100"]
    assert log.after(progress.PlainLines.PAUSE - 1) == ["work: 0 of 100"]
    assert log.after(1.0)[1:] == ["work: 0 of 100"]
    advance(25, "fine")
    assert log.after(11.0)[1:] == ["work: 0 of 100"]
    assert log.after(1.0)[2:] == ["work: 25 of 100, about 60 s left, fine"]
    times = []
    for second in range(600):
        if log.after(1.0)[len(times) + 3 :]:
            times.append(second)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == progress.PlainLines.LONGEST_PAUSE
    advance(75, "done")
    assert log.lines[-1] == "work: 100 of 100, in 10 minutes, done"


def test_off_a_terminal_what_is_over_at_once_gets_no_line_of_its_own():
    log = _Log()
    outer = log.reporter.begin("outer", 3)
    for _ in range(3):
        log.reporter.begin("inner", 1)(1, "")
        outer(1, "")
    assert log.lines == ["outer: 0 of 3"]
    log.reporter.begin("inner", 1)
    assert log.after(progress.PlainLines.SHORT) == ["outer: 0 of 3", "inner: 0 of 1"]


def test_nothing_is_worked_out_when_nobody_listens():
    progress.announce(lambda: 1 / 0)


def test_a_duration_is_as_exact_as_an_estimate():
    said = [progress.duration(seconds) for seconds in (0.2, 89.0, 90.0, 700.0, 7e3, 4e4, 3e5, 2e6)]
    assert said == ["1 s", "89 s", "1.5 minutes", "12 minutes", "1.9 hours", "11 hours", "3.5 days", "23 days"]


def test_in_a_cell_each_work_has_one_line_that_changes(monkeypatch):
    shown = []

    class Handle:
        def update(self, cell):
            shown.append(repr(cell))

    fake = types.SimpleNamespace(display=lambda cell, display_id: Handle())
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    monkeypatch.setattr(progress.PlainLines, "SHORT", 0.0)
    monkeypatch.setattr(progress.PlainLines, "PAUSE", 0.0)
    with progress.progress_bars(Console(file=io.StringIO(), force_jupyter=True)):
        progress.announce(lambda: "96 prompts; about 2 s")
        for part in ("all prompts", "sample 1"):
            with progress.part_of(part):
                advance = progress.begin("mask search", 2)
                advance(1)
                advance(1)
    lines = shown[-1].splitlines()
    assert [line.rpartition(": ")[0] or line for line in lines] == [
        "96 prompts; about 2 s",
        "all prompts: mask search",
        "sample 1: mask search",
    ]
    assert all(": 2 of 2, in " in line for line in lines[1:])
    assert any("sample 1: mask search: 1 of 2, about " in one for one in shown)
