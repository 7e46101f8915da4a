"""Which format a folder holds, and the one way in and out of all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gossamer.dictionary.config import Contents
from gossamer.dictionary.formats import gemma_scope, gemma_scope_2, hub, saelens
from gossamer.dictionary.formats.facts import Origin, Request
from gossamer.errors import UsageError

__all__ = ["FORMATS", "Format", "Request", "read", "write"]


@dataclass(frozen=True)
class Format:
    """How one format is recognised, read and written.

    Attributes:
        weights: the file whose presence means this format.
        others: further files it reads if they exist.
    """

    weights: str
    others: tuple[str, ...]
    read: Callable[[Path, Origin, Request], Contents]
    write: Callable[[Path, Contents], None]


FORMATS = {
    "saelens": Format(saelens.WEIGHTS, (saelens.CONFIG, saelens.SCALER), saelens.read, saelens.write),
    "gemma_scope": Format(gemma_scope.WEIGHTS, (), gemma_scope.read, gemma_scope.write),
    "gemma_scope_2": Format(gemma_scope_2.WEIGHTS, (gemma_scope_2.CONFIG,), gemma_scope_2.read, gemma_scope_2.write),
}


def read(source: str | Path, format: str | None, request: Request) -> Contents:
    """Read a dictionary from a local folder, a weights file in one, or a hub reference.

    Raises:
        UsageError: nothing there, nothing known there, or several formats there and none asked for.
    """
    folder, origin = _fetched(source)
    name = format if format is not None else _recognised(folder, origin)
    return _named(name).read(folder, origin, request)


def write(folder: Path, format: str, contents: Contents) -> Path:
    """Write a dictionary to a folder, which is returned."""
    _named(format).write(folder, contents)
    return folder


def _named(format: str) -> Format:
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    return FORMATS[format]


def _fetched(source: str | Path) -> tuple[Path, Origin]:
    if hub.is_reference(source):
        return hub.fetch(str(source), [name for known in FORMATS.values() for name in (known.weights, *known.others)])
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; give a dictionary's folder, or hub:owner/repo/path")
    return (path.parent if path.is_file() else path), Origin(str(source))


def _recognised(folder: Path, origin: Origin) -> str:
    found = [name for name, known in FORMATS.items() if (folder / known.weights).is_file()]
    if len(found) == 1:
        return found[0]
    expected = ", ".join(f"{known.weights} ({name})" for name, known in FORMATS.items())
    if not found:
        raise UsageError(f"{origin.source}: no dictionary found; expected one of {expected}")
    raise UsageError(f"{origin.source}: several formats found ({', '.join(found)}); say which with format=")
