"""Progress of long work: silent in a library call, bars with rate and remaining time when a program asks for them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar

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

    def begin(self, what: str, total: int) -> Callable[[int, str], None]:
        """Announce `what` with `total` steps; returns `advance(steps, note)`."""

    def show_table(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Show the latest numbers of the work, a row for each of its parts."""


_reporter: ContextVar[Reporter | None] = ContextVar("gossamer_progress", default=None)


def begin(what: str, total: int) -> Callable[[int, str], None]:
    """Announce work of `total` steps; returns `advance(steps, note)`, which does nothing when nobody listens."""
    reporter = _reporter.get()
    return reporter.begin(what, total) if reporter is not None else _ignore


def show_table(rows: Sequence[Mapping[str, str]]) -> None:
    """Show the latest numbers of the work under its bar, instead of the last ones; nothing when nobody listens.

    Args:
        rows: cells by name of their column; all rows have the columns of the first.
    """
    reporter = _reporter.get()
    if reporter is not None:
        reporter.show_table(rows)


def _ignore(steps: int, note: str = "") -> None:
    return None


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


class _Lines(Progress):
    """Bars, and the latest numbers under them."""

    numbers: Table | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.numbers is not None:
            yield self.numbers


class _Bars:
    def __init__(self, progress: _Lines) -> None:
        self.progress = progress

    def begin(self, what: str, total: int) -> Callable[[int, str], None]:
        # Work that comes again has one bar, the latest: dozens of finished ones of one name would say nothing.
        for done in [task.id for task in self.progress.tasks if task.description == what and task.finished]:
            self.progress.remove_task(done)
        task = self.progress.add_task(what, total=total, note="")

        def advance(steps: int, note: str = "") -> None:
            self.progress.update(task, advance=steps, note=note)

        return advance

    def show_table(self, rows: Sequence[Mapping[str, str]]) -> None:
        # Only where it can be drawn over: a log would get it once, at the end, when it says nothing new.
        if not rows or not self.progress.console.is_terminal:
            return
        first, *columns = rows[0]
        table = Table(first, box=None)
        for column in columns:
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*(row.get(column, "") for column in rows[0]))
        self.progress.numbers = table


@contextlib.contextmanager
def progress_bars(console: Console | None = None) -> Iterator[None]:
    """Show bars (name, done of total, rate, time left, note) and numbers on `console` (default: standard error)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with _Lines(*columns, console=console or Console(stderr=True)) as progress:
        token = _reporter.set(_Bars(progress))
        try:
            yield
        finally:
            _reporter.reset(token)
