"""Scopes: the top of a model, and the bodies of scans and remats, which values must be brought out of by `save`."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import jax

from gossamer.jax import compat
from gossamer.jax.errors import ScopedValue
from gossamer.jax.layers import ChosenLayer

Kind = Literal["top", "layer", "scan", "remat", "cond", "inner"]


class Handle:
    """A saved value: `value` is there once the scope that it was saved in has ended."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._there = False
        self._value: Any = None

    @property
    def value(self) -> Any:
        """The saved value.

        Raises:
            ScopedValue: the scope has not ended yet.
        """
        if not self._there:
            raise ScopedValue(
                f"the value saved at {self._what} is there when that scope has ended: "
                "read it after the `with run(...)` block, or once the run has moved on to a site outside of the scope"
            )
        return self._value

    def fill(self, value: Any) -> None:
        self._value, self._there = value, True


@dataclass
class Kept:
    """A save on its way out of nested scopes.

    Args:
        handle: where the value goes at last.
        chosen: the layers that are kept; None where the value is in no stacked layers.
        value: the value in the present scope. Of one step, unless it has come through a scan: then with an axis of
            the chosen layers, or of all.
        rows: whether the value has that axis.
        written: (k,) which rows have been reached, where the value has come through a scan and layers are chosen.
    """

    handle: Handle
    chosen: ChosenLayer | None
    value: Any
    rows: bool = False
    written: Any = None

    def finish(self) -> None:
        if self.chosen is not None and self.chosen.one:
            self.value = jax.tree.map(lambda leaf: leaf[0], self.value)
        self.handle.fill(self.value)


@dataclass
class Scope:
    """Where the interpreter is.

    Args:
        kind: what the scope is the body of.
        path: the named scopes around it, as shown to the user.
        parent: the scope outside; None at the top.
        layer: the number of the layer, counted over all scans around; None outside of scans.
        total: how many layers that number counts among.
        stacked: the layer is a traced number, standing for all.
        index: the steps of the scans around, outermost first.
        level: what operations of this body belong to, while it is open; None at the caller's own level.
    """

    kind: Kind
    path: str = ""
    parent: "Scope | None" = None
    layer: Any = None
    total: int = 1
    stacked: bool = False
    index: tuple[Any, ...] = ()
    level: "compat.Level | None" = None
    kept: list[Kept] = field(default_factory=list)

    @property
    def length(self) -> int | None:
        """How many layers a site stands for; None for one."""
        return self.total if self.stacked else None

    @property
    def in_branch(self) -> bool:
        """Whether a branch of a cond is around: what is computed in it may not be there."""
        return self.kind == "cond" or (self.parent is not None and self.parent.in_branch)

    def inside(self, kind: Kind, path: str) -> "Scope":
        """The scope of a remat or a branch."""
        return Scope(kind, path, self, self.layer, self.total, self.stacked, self.index)

    def step(self, kind: Kind, path: str, number: Any, steps: int) -> "Scope":
        """The scope of a step of a scan: a traced one ("scan") or a peeled one ("layer")."""
        layer = number if self.layer is None else self.layer * steps + number
        stacked = self.stacked or kind == "scan"
        return Scope(kind, path, self, layer, self.total * steps, stacked, (*self.index, number))

    @property
    def inline(self) -> bool:
        """Whether values computed here are values of the caller's own trace."""
        return self.kind == "top" or (self.kind == "layer" and (self.parent is None or self.parent.inline))

    @contextlib.contextmanager
    def home(self) -> Iterator[None]:
        """Compute in this body, wherever the caller's code is (in another run's body, or under `outside`)."""
        scope: Scope | None = self
        while scope is not None and scope.kind == "layer":
            scope = scope.parent
        if scope is None or scope.level is None:
            yield
            return
        with scope.level.inside():
            yield

    def save(self, value: Any, chosen: ChosenLayer | None, what: str) -> Handle:
        handle = Handle(what)
        self.keep(Kept(handle, chosen, value))
        return handle

    def keep(self, kept: Kept) -> None:
        """Take a value that is saved here, or has come out of an inner scope."""
        if self.inline:
            kept.finish()
        elif self.kind == "layer":
            assert self.parent is not None
            self.parent.keep(kept)
        else:
            self.kept.append(kept)

    def release(self) -> list[tuple[Any, Any]]:
        """What must leave with the results of the scope's body: value and written rows of every save."""
        values = [(kept.value, kept.written) for kept in self.kept]
        for kept in self.kept:
            kept.value = kept.written = None  # or the handle would hold a tracer of a trace that ends
        self.layer, self.index, self.level = None, (), None
        return values
