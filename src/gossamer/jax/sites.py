"""The table of a model's tags, read from its jaxpr: nothing is run."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jax

from gossamer.jax import compat
from gossamer.jax.errors import unknown_tag
from gossamer.jax.names import facts_of, is_checkpoint_name, is_recomputation, name_of
from gossamer.jax.site import path_matches
from gossamer.jax.staging import refuse_shared, stage


@dataclass(frozen=True)
class SiteRow:
    """One tag of a model.

    Args:
        name, path, count, source: as a `TagSite`'s.
        layer: the same as `count`; None in stacked layers.
        length: how many stacked layers the site stands for; None outside of them.
        scope: the innermost of "top", "scan", "remat", "cond"; or the primitive that a run cannot open.
        shape, dtype: of the value of one layer; a tree of them where the value is one.
    """

    name: str
    path: str
    count: int
    layer: int | None
    length: int | None
    scope: str
    shape: Any
    dtype: Any
    source: str


class SiteTable:
    """The rows of `sites`, in the order of the model."""

    def __init__(self, rows: list[SiteRow], unasked: frozenset[str] = frozenset()) -> None:
        self.rows = tuple(rows)
        self._unasked = unasked  # checkpoint names that were not asked for

    def __iter__(self) -> Iterator[SiteRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> SiteRow:
        return self.rows[at]

    def named(self, name: str, path: str | None = None) -> list[SiteRow]:
        """The rows of a name (or glob pattern) and a glob pattern for the path."""
        return [row for row in self.rows if fnmatchcase(row.name, name) and path_matches(row.path, path)]

    def expect(self, name: str, path: str | None = None) -> list[SiteRow]:
        """As `named`.

        Raises:
            UnknownTag: there are none.
        """
        found = self.named(name, path)
        if not found:
            raise unknown_tag(name, (row.name for row in self.rows), path, self._unasked)
        return found

    def unrolled(self, name: str) -> tuple[int, ...]:
        """The numbers of the layers of exactly this name outside of stacked layers."""
        return tuple(row.layer for row in self.rows if row.name == name and row.layer is not None)

    def __str__(self) -> str:
        head = ("name", "path", "layer", "scope", "shape", "dtype", "source")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    __repr__ = __str__

    def tree(self) -> str:
        """The tags under their paths, indented."""
        lines: list[str] = []
        shown: list[str] = []
        for row in self.rows:
            parts = row.path.split("/") if row.path else []
            common = 0
            while common < min(len(parts), len(shown)) and parts[common] == shown[common]:
                common += 1
            lines.extend("  " * depth + f"{parts[depth]}/" for depth in range(common, len(parts)))
            layers = f" x {row.length} layers" if row.length else ""
            lines.append("  " * len(parts) + f"{row.name}  {row.dtype}{_shape(row.shape)}{layers}")
            shown = parts
        return "\n".join(lines)


def sites(function: Callable[..., Any], *args: Any, checkpoint_names: bool = False, **kwargs: Any) -> SiteTable:
    """The tags of `function(*args, **kwargs)`.

    Args:
        checkpoint_names: also what the model names for remat policies (`jax.ad_checkpoint.checkpoint_name`).

    Raises:
        NeedsLive: the function cannot be staged.
        InstrumentError: `checkpoint_names` is an argument of the function, too: give it that with functools.partial.
    """
    refuse_shared(function, checkpoint_names=checkpoint_names)
    return table_of(stage(function, args, kwargs).closed.jaxpr, checkpoint_names=checkpoint_names)


def table_of(jaxpr: Any, *, checkpoint_names: bool = False) -> SiteTable:
    """The tags of a jaxpr; `checkpoint_names` as in `sites`."""
    walk = _Walk(checkpoint_names)
    walk.over(jaxpr, "top", "", None)
    return SiteTable(walk.rows, frozenset(walk.unasked))


class _Walk:
    """A jaxpr and all that is in it, in the order of its equations.

    Attributes:
        rows: the tags.
        unasked: the names for remat policies that were not asked for.
    """

    def __init__(self, checkpoint_names: bool) -> None:
        self.rows: list[SiteRow] = []
        self.unasked: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._checkpoint_names = checkpoint_names

    def over(self, jaxpr: Any, scope: str, path: str, length: int | None) -> None:
        for eqn in jaxpr.eqns:
            here = "/".join(part for part in (path, str(compat.names_of(eqn))) if part)
            name = name_of(eqn, checkpoint_names=self._checkpoint_names)
            if name is not None:
                self.rows.append(_row(eqn, self._counts, scope, here, length))
                self._counts[name] += 1
            elif is_checkpoint_name(eqn):
                self.unasked.add(eqn.params["name"])
            elif not is_recomputation(eqn):
                inner, steps = _scope_of(eqn, scope, length)
                for body in compat.inner_jaxprs(eqn):
                    self.over(body, inner, here, steps)


def _scope_of(eqn: Any, scope: str, length: int | None) -> tuple[str, int | None]:
    kind = eqn.primitive.name
    if kind in compat.JIT:
        return scope, length
    if kind == compat.SCAN:
        return "scan", (length or 1) * compat.scan_form(eqn).length
    return ("remat" if kind in compat.REMAT else kind), length


def _row(eqn: Any, counts: Counter[str], scope: str, path: str, length: int | None) -> SiteRow:
    facts = facts_of(eqn, path)
    name, tree = facts["name"], facts["tree"]
    avals = [
        jax.ShapeDtypeStruct(_front(atom.aval.shape, axes), atom.aval.dtype)
        for atom, axes in zip(eqn.outvars, facts["axes"], strict=True)
    ]
    value = jax.tree.unflatten(tree, avals)
    shape, dtype = jax.tree.map(lambda leaf: leaf.shape, value), jax.tree.map(lambda leaf: leaf.dtype, value)
    count = counts[name]
    layer = count if length is None else None
    return SiteRow(name, path, count, layer, length, scope, shape, dtype, compat.source_of(eqn))


def _front(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return (*(shape[at] for at in axes), *(size for at, size in enumerate(shape) if at not in axes))


def _cells(row: SiteRow) -> tuple[str, ...]:
    layer = f"0..{row.length - 1}" if row.length else str(row.layer)
    return row.name, row.path, layer, row.scope, _shape(row.shape), str(row.dtype), row.source


def _shape(shape: Any) -> str:
    plain = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
    return str(list(shape)) if plain else str(shape)
