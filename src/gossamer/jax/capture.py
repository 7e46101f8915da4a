"""`capture` and `patch`: reads and writes that need no loop. They use the callback form: no greenlets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gossamer.jax import compat
from gossamer.jax.errors import InstrumentError, NeedsLayer, Unsupported
from gossamer.jax.layers import ChosenLayer, Layers, choose
from gossamer.jax.run import Run
from gossamer.jax.scope import Handle
from gossamer.jax.site import TagSite
from gossamer.jax.sites import SiteRow, SiteTable


@dataclass(frozen=True, eq=False)
class At:
    """Which sites: a name, the layers among them, a glob pattern for the path, and which one of those that are left.

    Two that say the same are equal, so that what was captured is found by either; a traced layer only equals itself.
    """

    name: str
    layers: Layers = None
    path: str | None = None
    nth: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, At) and self._facts == other._facts

    def __hash__(self) -> int:
        return hash(self._facts)

    def __lt__(self, other: object) -> bool:
        """JAX sorts the keys of a dict that leaves a `jit`."""
        return str(self) < str(other)

    def __gt__(self, other: object) -> bool:
        return str(self) > str(other)

    def __str__(self) -> str:
        shown = {
            "layers": "traced" if isinstance(self.layers, jax.core.Tracer) else _plain(self.layers),
            "path": self.path and repr(self.path),
            "nth": self.nth,
        }
        facts = [repr(self.name), *(f"{key}={value}" for key, value in shown.items() if value is not None)]
        return f"at({', '.join(facts)})"

    __repr__ = __str__

    @property
    def _facts(self) -> tuple[Any, ...]:
        layers = _plain(self.layers)
        hashed = id(layers) if isinstance(layers, jax.core.Tracer) else repr(layers)
        return self.name, hashed, self.path, self.nth


def _plain(layers: Layers) -> Layers:
    """Layers as a text, a number or a list, whatever holds them; traced ones as they are."""
    return layers if layers is None or isinstance(layers, (str, jax.core.Tracer)) else np.asarray(layers).tolist()


def at(name: str, layers: Layers = None, path: str | None = None, nth: int | None = None) -> At:
    """Name sites for `patch`, `capture` and `split`.

    Args:
        name: a tag's name.
        layers: "all", a number, several, or a traced number; needed where the name stands for several layers.
        path: a glob pattern for the path.
        nth: which one of the rows of `sites` that have this name and path, from 0: for those that share a path.
    """
    return At(name, layers, path, nth)


def capture(
    function: Callable[..., Any], wanted: Mapping[Any, Layers] | Iterable[Any] | At, *, checkpoint_names: bool = False
) -> Callable[..., Any]:
    """A function that also returns values from inside the model.

    Args:
        function: the model.
        wanted: names of tags with the layers to keep: {"resid": [3, 12], "probs": "all", "emb": None}; or names and
            `at(...)`s; or one name or `at(...)` by itself.
        checkpoint_names: as in `run`.

    Returns: a function of the same arguments, returning (result, values by the keys of `wanted`). A value has a leading
        axis of layers where several were asked for, in that order. Stacked layers take memory for the chosen ones only.

    Raises, when it is called:
        UnknownTag, NeedsLayer, LayerOutOfRange: as `TagSite.save`.
        UnusedIntervention: the model did not come by a site.
    """
    wanted = [wanted] if isinstance(wanted, (str, At)) else wanted
    asked = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted)
    for key in asked:
        # As a key it would leave the trace with the result.
        if isinstance(key, At) and isinstance(key.layers, jax.core.Tracer):
            raise InstrumentError(f"capture: {key} as a key: give a traced layer as the value, {{{key.name!r}: layer}}")

    def captured(*args: Any, **kwargs: Any) -> tuple[Any, dict[Any, Any]]:
        with Run(function, args, kwargs, checkpoint_names=checkpoint_names) as run:
            readers = {key: _Reader(_merged(key, layers), run) for key, layers in asked.items()}
        return run.result, {key: reader.value() for key, reader in readers.items()}

    return captured


def patch(
    function: Callable[..., Any],
    edits: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
    *,
    cast: bool = False,
    checkpoint_names: bool = False,
) -> Callable[..., Any]:
    """A function with values inside the model changed.

    Args:
        function: the model.
        edits: `at(...)` or a tag's name, with a function of the value, or the value to put there: a dict, or pairs. Of
            two edits of one site the second sees what the first wrote.
        cast: as in `TagSite.set`.
        checkpoint_names: as in `run`.

    Returns: a function of the same arguments and result.

    Raises, when it is called: as `TagSite.edit`; UnusedIntervention: the model did not come by a site.
    """
    pairs = list(edits.items() if isinstance(edits, Mapping) else edits)

    def patched(*args: Any, **kwargs: Any) -> Any:
        with Run(function, args, kwargs, checkpoint_names=checkpoint_names) as run:
            for key, change in pairs:
                _write(_merged(key, None), change, run, cast=cast)
        return run.result

    return patched


def _merged(key: Any, layers: Layers) -> At:
    if not isinstance(key, At):
        return At(key, layers)
    if layers is None:
        return key
    if key.layers is not None:
        raise InstrumentError(f"{key}: layers are given twice")
    return replace(key, layers=layers)


def rows_of(where: At, table: SiteTable) -> list[SiteRow]:
    """The sites that are meant: one in stacked layers, or any number outside of them.

    Raises:
        UnknownTag: there are none.
        InstrumentError: several scans have the tag, or a scan and the layers around it.
        NeedsLayer: several sites, and no layers are given.
    """
    rows = table.expect(where.name, where.path)
    if where.nth is not None:
        if not 0 <= where.nth < len(rows):
            raise InstrumentError(f"{where}: {len(rows)} rows of `sites` have this name and path, counted from 0")
        rows = [rows[where.nth]]
    names = sorted({row.name for row in rows})
    if len(names) > 1:
        raise InstrumentError(f"{where} matches several tags, {', '.join(names)}: name each by itself")
    stacked = [row for row in rows if row.length is not None]
    if stacked and len(rows) > 1:
        places = ", ".join(f"{row.path or 'top'} ({row.source})" for row in rows)
        raise InstrumentError(
            f"{where} is tagged in several places, whose layers count separately: {places}. Give path= or nth=0, 1, ..."
        )
    if len(rows) > 1 and where.layers is None:
        raise NeedsLayer(f'{where} stands for {len(rows)} sites: pass layers=... (numbers or "all"), or path=')
    return rows


def unrolled(where: At, rows: list[SiteRow]) -> ChosenLayer:
    """The chosen layers among sites outside of stacked layers.

    Raises:
        LayerOutOfRange: a number that none of them has.
    """
    return ChosenLayer(None) if where.layers is None else choose(where.layers, layers_of(rows))


def layers_of(rows: list[SiteRow]) -> tuple[int, ...]:
    """The numbers of the layers of rows outside of stacked layers."""
    return tuple(row.count for row in rows)


def each(rows: list[SiteRow], chosen: ChosenLayer | None) -> list[list[SiteRow]]:
    """The rows by what must be met: each that is chosen by its number, or else any of them."""
    if chosen is None or not isinstance(chosen.numbers, tuple):
        return [rows]
    return [[row] for row in rows if row.count in chosen.numbers]


class _Reader:
    """One entry of `capture`: keeps handles as the run passes, and puts them together at the end."""

    def __init__(self, where: At, run: Run) -> None:
        self._where = where
        rows = rows_of(where, run.table)
        self._stacked = rows[0].length is not None
        self._chosen = None if self._stacked else unrolled(where, rows)
        if self._chosen is not None and not self._chosen.known:
            raise Unsupported(
                f"{where}: a traced layer of unrolled layers cannot be captured: stack the layers in a scan"
            )
        self._kept: dict[int, Handle] = {}
        for some in each(rows, self._chosen):
            run.at_rows(some, self._read, f"capture of {where}")

    def _read(self, site: TagSite) -> None:
        self._kept[site.count] = site.save(layers=self._where.layers if self._stacked else None)

    def value(self) -> Any:
        if self._stacked or self._where.layers is None:
            (handle,) = self._kept.values()
            return handle.value
        assert self._chosen is not None
        order = sorted(self._kept) if self._chosen.numbers is None else self._chosen.numbers
        values = [self._kept[int(layer)].value for layer in order]
        return values[0] if self._chosen.one else jax.tree.map(self._stacked_up, *values)

    def _stacked_up(self, *leaves: Any) -> Any:
        shapes = dict.fromkeys(leaf.shape for leaf in leaves)
        if len(shapes) > 1:
            raise InstrumentError(
                f"{self._where}: the layers have different shapes, {', '.join(map(str, shapes))}, and cannot be one "
                f"array. Capture them one by one: {{at({self._where.name!r}, layers=n): None for n in ...}}"
            )
        with compat.x64_for(leaves):
            return jnp.stack(leaves)


def _write(where: At, change: Any, run: Run, *, cast: bool) -> None:
    rows = rows_of(where, run.table)
    stacked = rows[0].length is not None
    chosen = None if stacked else unrolled(where, rows)

    def edit(site: TagSite) -> None:
        if not stacked:
            site.numbers = layers_of(rows)  # of this path only
        if callable(change):
            site.edit(change, layers=where.layers, cast=cast)
        else:
            site.set(change, layers=where.layers, cast=cast)

    for some in each(rows, chosen):
        run.at_rows(some, edit, f"patch at {where}")
