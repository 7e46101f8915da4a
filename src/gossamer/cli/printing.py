"""What the commands say: text and tables on standard output, one-line errors and warnings on standard error."""

import json
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossamer.errors import GossamerError, one_line


@contextmanager
def _writing() -> Iterator[None]:
    """Make one line of a standard output that cannot be written, as on a full disk."""
    try:
        yield
    except BrokenPipeError:
        # Who reads has read enough, as `head` does: Typer ends the command.
        raise
    except OSError as error:
        raise GossamerError(
            f"standard output: could not be written ({error.strerror or error}); what the command saved stays"
        ) from error


class _Output(Console):
    """Standard output or error for people.

    Attributes:
        spoken: whether anything was printed.
    """

    spoken = False

    def print(self, *objects: Any, **options: Any) -> None:
        self.spoken = True
        with nullcontext() if self.stderr else _writing():
            super().print(*objects, **options)


# Prompts, paths and messages hold brackets and colons of their own: rich must not read them as its markup.
out, err = (_Output(stderr=stderr, markup=False, emoji=False, highlight=False) for stderr in (False, True))


@contextmanager
def first_word(seconds: float = 4.0) -> Iterator[None]:
    """Say on standard error what a command does, if after so long it has said nothing itself."""

    def speak() -> None:
        if not (out.spoken or err.spoken):
            err.print("loading libraries and model ...")

    timer = threading.Timer(seconds, speak)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def fail(error: Exception, code: int) -> NoReturn:
    """Print `error` as one line and exit."""
    err.print(Text.assemble(("error:", "bold red"), " ", one_line(str(error))), soft_wrap=True)
    sys.exit(code)


@contextmanager
def spoken_warnings() -> Iterator[None]:
    """Print gossamer's own warnings as one line each, and no others."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if "gossamer" in category.__module__:
            err.print(Text.assemble(("warning:", "bold yellow"), " ", one_line(str(message))), soft_wrap=True)

    original, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = original


def print_json(value: Any) -> None:
    """Print one JSON object to standard output."""
    with _writing():
        print(json.dumps(value, indent=1, allow_nan=False), flush=True)


def print_study_json(study: Any) -> None:
    """Print what a study found, with its settings, as one JSON object to standard output."""
    from gossamer.results.values import to_json

    print_json({"settings": dict(study.settings), "parts": to_json(study.found)})


def print_study(sections: Iterable[tuple[str, Sequence[Sequence[str]]]], sentences: Iterable[str]) -> None:
    """Print a study's tables, each under its title and with its columns' names first, and what they come to."""
    for title, rows in sections:
        out.print(title, style="bold")
        table = Table(*rows[0], box=None, padding=(0, 1, 0, 0))
        for row in rows[1:]:
            table.add_row(*row)
        out.print(table)
        out.print()
    for sentence in sentences:
        out.print(sentence, soft_wrap=True)


def number(value: float | None, digits: int) -> str:
    """`value` for a table; "-" if there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def warn_of_other_models(asked: str, answered_by: Iterable[str]) -> None:
    """Say so where a server answers by another model than it was asked for."""
    if others := {one for one in answered_by if one and one != asked}:
        err.print(f"warning: asked for {asked}, answered by {', '.join(sorted(others))}", soft_wrap=True)
