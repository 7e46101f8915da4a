"""Entries of foreign configuration files, checked where they are read."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json

# Shared characters of two names of which one is a misspelling of the other.
_NEAR = 0.88
# No width, count or scale has as many bits, and tensors no place for more.
_LARGEST = 2**63


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises :class:`GossamerError` if there is none or something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise GossamerError(f"{path}: expected a JSON object, found {type(value).__name__}; fetch it again")
    return value


def typed(facts: Mapping[str, Any], key: str, kind: type, path: Path, *default: Any) -> Any:
    """The entry at `key`, which must be a `kind`; a missing or null one is the default if one is given.

    Raises:
        GossamerError: naming file and key, what was expected and what was found.
    """
    value = facts.get(key)
    if value is None and default:
        return default[0]
    # bool is an int to Python, but not to a reader of configurations
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise GossamerError(f"{path}: expected {kind.__name__} at {key!r}, found {value!r}; restore the file")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise GossamerError(f"{path}: expected a number of less than 64 bits at {key!r}, found more; restore the file")
    return value


def number(value: Any, key: str, path: Path, kind: type = object) -> Any:
    """A number or None, as float if `kind` says so. Raises :class:`GossamerError` for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or _LARGEST <= abs(value) < float("inf"):
        raise GossamerError(f"{path}: expected a number at {key!r}, found {value!r}; restore the file")
    return float(value) if kind is float else value


def positive(facts: Mapping[str, Any], key: str, path: Path) -> float:
    """The positive number at `key`. Raises :class:`GossamerError` if it is missing or something else."""
    value = number(facts.get(key), key, path, float)
    if value is None or not 0 < value < float("inf"):
        raise GossamerError(f"{path}: expected a positive number at {key!r}, found {value!r}; restore the file")
    return float(value)


def require_spelling(facts: Mapping[str, Any], optional: Iterable[str], path: Path) -> None:
    """Refuse keys that are nearly the name of an optional one, whose default would be taken in silence.

    Raises:
        UsageError: naming both.
    """
    known = list(optional)
    for key in facts:
        near = [] if key in known else get_close_matches(key, known, 1, _NEAR)
        if near:
            raise UsageError(f"{path}: unknown key {key!r}; expected {near[0]!r}: correct it, or take it out")


def require_one_of(facts: Mapping[str, Any], key: str, known: tuple[Any, ...], path: Path) -> Any:
    """The entry at `key`, which must be one of `known`. Raises :class:`UsageError` naming them."""
    value = facts.get(key)
    if value not in known:
        raise UsageError(f"{path}: unknown {key} {value!r}; known: {', '.join(map(str, known))}")
    return value
