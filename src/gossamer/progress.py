"""Progress of long work: silent in a library call; when a program asks for it, bars with rate and remaining time on a
terminal, and a line now and then anywhere else."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

Item = TypeVar("Item")


class Reporter(Protocol):
    """Anything that can be told that a piece of work began and how far it is."""

    def begin(self, what: str, total: int, part_of: str = "") -> Callable[[int, str], None]:
        """Announce `what` with `total` steps, a part of larger work; returns `advance(steps, note)`."""

    def show_table(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Show the latest numbers of the work, a row for each of its parts."""

    def announce(self, text: str) -> None:
        """Say something once, such as what the work will cost."""


_reporter: ContextVar[Reporter | None] = ContextVar("gossamer_progress", default=None)
_larger: ContextVar[tuple[str, ...]] = ContextVar("gossamer_progress_larger", default=())


def begin(what: str, total: int) -> Callable[[int, str], None]:
    """Announce work of `total` steps; returns `advance(steps, note)`, which does nothing when nobody listens."""
    reporter = _reporter.get()
    return reporter.begin(what, total, ", ".join(_larger.get())) if reporter is not None else _ignore


@contextlib.contextmanager
def part_of(larger: str) -> Iterator[None]:
    """Say of all work inside which of several times it is done: "sample 2 of 5: mask search"."""
    token = _larger.set((*_larger.get(), larger))
    try:
        yield
    finally:
        _larger.reset(token)


def show_table(rows: Sequence[Mapping[str, str]]) -> None:
    """Show the latest numbers of the work under its bar, instead of the last ones; nothing when nobody listens.

    Args:
        rows: cells by name of their column; all rows have the columns of the first.
    """
    reporter = _reporter.get()
    if reporter is not None:
        reporter.show_table(rows)


def announce(text: Callable[[], str]) -> None:
    """Say something of the work once, such as what it will cost; where nobody listens, `text` is not called."""
    reporter = _reporter.get()
    if reporter is not None:
        reporter.announce(text())


def _ignore(steps: int, note: str = "") -> None:
    return None


def _named(what: str, larger: str) -> str:
    return f"{larger}: {what}" if larger else what


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield `items`, reporting one step of `what` after each."""
    advance = begin(what, total)
    for item in items:
        yield item
        advance(1, "")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Let no work inside be announced: it is a step of work that is."""
    token = _reporter.set(None)
    try:
        yield
    finally:
        _reporter.reset(token)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="cyan")


class _BarsWithNumbers(Progress):
    """Bars, and the latest numbers under them."""

    numbers: Table | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.numbers is not None:
            yield self.numbers


class _Bars:
    def __init__(self, progress: _BarsWithNumbers) -> None:
        self.progress = progress

    def begin(self, what: str, total: int, part_of: str = "") -> Callable[[int, str], None]:
        # Work that comes again has one bar, the latest: dozens of finished ones of one name would say nothing.
        for done in [task.id for task in self.progress.tasks if task.fields["what"] == what and task.finished]:
            self.progress.remove_task(done)
        task = self.progress.add_task(_named(what, part_of), total=total, note="", what=what)

        def advance(steps: int, note: str = "") -> None:
            self.progress.update(task, advance=steps, note=note)

        return advance

    def show_table(self, rows: Sequence[Mapping[str, str]]) -> None:
        if not rows:
            return
        first, *columns = rows[0]
        table = Table(first, box=None)
        for column in columns:
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*(row.get(column, "") for column in rows[0]))
        self.progress.numbers = table

    def announce(self, text: str) -> None:
        self.progress.console.print(text, soft_wrap=True)


@dataclass
class _Work:
    what: str
    total: int
    since: float
    done: int = 0
    note: str = ""
    said: bool = False


class PlainLines:
    """Progress where bars cannot be drawn over, as in a log: lines that stay.

    Work is named when it begins, but not twice in `SHORT` seconds: what is over sooner is not worth a line. While it
    lasts, a line says how far it is, at first after `PAUSE` seconds and then ever more rarely.

    Attributes:
        write: what prints a line.
        clock: seconds, for tests another than the system's.
    """

    SHORT, PAUSE, LONGEST_PAUSE = 2.0, 8.0, 60.0

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self._work: list[_Work] = []
        self._last, self._pause = -self.LONGEST_PAUSE, self.PAUSE
        self._lock = threading.Lock()

    def begin(self, what: str, total: int, part_of: str = "") -> Callable[[int, str], None]:
        """See :class:`Reporter`."""
        work = _Work(_named(what, part_of), total, self.clock())
        with self._lock:
            self._work.append(work)
            self._pause = self.PAUSE
        self.look()

        def advance(steps: int, note: str = "") -> None:
            with self._lock:
                work.done, work.note = work.done + steps, note
                if work.done >= total and work in self._work:
                    self._work.remove(work)
                    if work.said and self.clock() - work.since >= self.SHORT:
                        self._say(work)
            self.look()

        return advance

    def look(self) -> None:
        """Print the line that is due, if one is: of the work that began last."""
        with self._lock:
            if not self._work:
                return
            work, passed = self._work[-1], self.clock() - self._last
            if passed >= (self._pause if work.said else self.SHORT):
                self._pause = min(1.5 * self._pause, self.LONGEST_PAUSE) if work.said else self.PAUSE
                self._say(work)

    def _say(self, work: _Work) -> None:
        work.said, self._last = True, self.clock()
        words = [f"{work.what}: {work.done:,} of {work.total:,}"]
        if 0 < work.done < work.total:
            left = (self._last - work.since) * (work.total - work.done) / work.done
            words.append(f"about {duration(left)} left")
        elif work.done:
            words.append(f"in {duration(self._last - work.since)}")
        self.write(", ".join([*words, work.note] if work.note else words))

    def show_table(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Nothing: the lines of a log would say it again and again."""

    def announce(self, text: str) -> None:
        """See :class:`Reporter`."""
        with self._lock:
            self.write(text)


def duration(seconds: float) -> str:
    """In words that are as exact as an estimate."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{1 if seconds < 10 * length else 0}f} {unit}"
    return f"{max(1, round(seconds))} s"


@contextlib.contextmanager
def progress_bars(console: Console | None = None) -> Iterator[None]:
    """Show bars (name, done of total, rate, time left, note) and numbers on `console` (default: standard error).

    Where it is no terminal, :class:`PlainLines` instead; in a cell of a notebook each piece of work has one line, which
    changes.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        shown = _bars(console)
    else:
        shown = _lines(_Cell().write if console.is_jupyter else lambda text: console.print(text, soft_wrap=True))
    with shown as reporter:
        token = _reporter.set(reporter)
        try:
            yield
        finally:
            _reporter.reset(token)


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[Reporter]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with _BarsWithNumbers(*columns, console=console) as progress:
        yield _Bars(progress)


class _Cell:
    """The output of a notebook's cell: the latest line of each piece of work, in the place of those before."""

    def __init__(self) -> None:
        from IPython.display import display

        self.lines: dict[str, str] = {}
        self.handle: Any = display(self, display_id=True)

    def write(self, text: str) -> None:
        """Show a line: what stands before its last colon says of which work."""
        self.lines[text.rpartition(": ")[0] or text] = text
        self.handle.update(self)

    def __repr__(self) -> str:
        return "\n".join(self.lines.values())


@contextlib.contextmanager
def _lines(write: Callable[[str], None]) -> Iterator[Reporter]:
    lines, over = PlainLines(write), threading.Event()

    def watch() -> None:
        # A step may take minutes: lines do not wait for its end.
        while not over.wait(1.0):
            lines.look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lines
    finally:
        over.set()
        watcher.join()
