"""Which patches are in force, and the code of the functions that they share.

A function's code is always made from its original tree and all edits in force: patches come and go in any order.
"""

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

from gossamer.jax.patching.caches import announce, warn_if_cleared
from gossamer.jax.patching.changes import TAG, changed
from gossamer.jax.patching.compiling import compiled, require_current
from gossamer.jax.patching.edits import Edit
from gossamer.jax.patching.errors import PatchError
from gossamer.jax.patching.prefix import Lent, Prefix
from gossamer.jax.patching.source import FunctionSource, source_of
from gossamer.jax.tag import tag


class Edits(ABC):
    """A patch, as far as this file goes: a key for caches, what it does to each function, and names for its code."""

    prefix: Prefix | None = None

    @property
    @abstractmethod
    def edits(self) -> dict[FunctionType, list[Edit]]:
        """The functions to patch and their edits."""


@dataclass
class _Patched:
    """A function in force: its original code, and the code that was put in."""

    source: FunctionSource
    code: CodeType


@dataclass
class _State:
    lock: threading.RLock = field(default_factory=threading.RLock)
    patches: list[Edits] = field(default_factory=list)
    functions: dict[FunctionType, _Patched] = field(default_factory=dict)
    lent: Lent = field(default_factory=Lent)


_STATE = _State()


def original(function: FunctionType) -> FunctionSource:
    """The source of a function without any patch."""
    patched = _STATE.functions.get(function)
    return patched.source if patched else source_of(function, function.__code__)


def in_force() -> tuple[Edits, ...]:
    """The patches in force, in the order in which they were applied."""
    return tuple(_STATE.patches)


def apply(patch: Edits) -> None:
    """Put a patch in force, all of it or nothing.

    Raises:
        PatchError: an edit does not fit, alone or with those in force.
    """
    warn_if_cleared()
    with _STATE.lock:
        if any(other.prefix for other in _STATE.patches):
            for function in patch.edits:
                _with([patch], function)  # by itself: names that another patch brings go with that one
        _change([*_STATE.patches, patch], list(patch.edits))


def withdraw(patch: Edits) -> None:
    """Take a patch back; the others stay."""
    with _STATE.lock:
        _change([other for other in _STATE.patches if other is not patch], list(patch.edits))


def _change(patches: list[Edits], functions: list[FunctionType]) -> None:
    """Compile everything first, then swap: no error can leave half a patch behind."""
    new = {function: _with(patches, function) for function in functions}
    lent = _STATE.lent.wanted((function, _names(patch, function)) for patch in patches for function in patch.edits)
    _STATE.lent.lend(lent)
    for function, patched in new.items():
        function.__globals__[TAG] = tag  # stays when the patch goes: the patched code may still be running somewhere
        function.__code__ = patched.code
        _STATE.functions[function] = patched
        if patched.code is patched.source.code:
            del _STATE.functions[function]
    _STATE.lent.take_back(lent)
    _STATE.patches = patches
    announce(tuple(patches))


def _with(patches: list[Edits], function: FunctionType) -> _Patched:
    source = original(function)
    present = _STATE.functions.get(function)
    if present and function.__code__ is not present.code:
        raise PatchError(
            f"the code of {source.name} was changed by somebody else while it was patched: undo that first"
        )
    edits = [edit for patch in patches for edit in patch.edits.get(function, ())]
    if not edits:
        return _Patched(source, source.code)
    require_current(source)
    changes = [(edit.text, change) for edit in edits for change in edit.changes(source)]
    known = {**_STATE.lent.own(function.__globals__), TAG: tag}
    for patch in patches:
        known |= _names(patch, function)
    return _Patched(source, compiled(source, changed(source.node, changes), known))


def _names(patch: Edits, function: FunctionType) -> dict[str, Any]:
    return patch.prefix.names(function, _STATE.lent) if patch.prefix else {}
