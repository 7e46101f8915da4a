"""What differs between the settings on disk and those asked for, in words."""

import json
from typing import Any

# Settings that differ, named in an error.
_SAID = 6


def difference(stored: Any, asked: Any) -> str:
    """In words, what differs between the settings of two runs; the first few where much does."""
    ours, theirs = _flat(json.loads(json.dumps(asked))), _flat(stored)
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    said = [f"{name}: {_short(theirs.get(name))} there, {_short(ours.get(name))} asked" for name in names[:_SAID]]
    more = len(names) - _SAID
    return ", ".join([*said, f"and {more} more"] if more > 0 else said)


def _short(value: Any) -> str:
    """A hash by its beginning, which tells it from another."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every number and word in nested settings, by a name such as plans.0.seed."""
    if not isinstance(value, dict | list) or not value:
        return {name: value}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, Any] = {}
    for key, part in parts:
        found |= _flat(part, f"{name}.{key}" if name else str(key))
    return found
