"""`capture` and `patch`: reads and writes that need no loop. They use the callback form: no greenlets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gossamer.jax.errors import InstrumentError, LayerOutOfRange, NeedsLayer, Unsupported
from gossamer.jax.layers import Chosen, Layers, choose
from gossamer.jax.run import Run
from gossamer.jax.scope import Handle
from gossamer.jax.site import Site
from gossamer.jax.sites import SiteRow, SiteTable


@dataclass(frozen=True, eq=False)
class At:
    """Which sites: a name, the layers among them, and a glob pattern for the path."""

    name: str
    layers: Layers = None
    path: str | None = None

    def __lt__(self, other: object) -> bool:
        """JAX sorts the keys of a dict that leaves a `jit`."""
        return str(self) < str(other)

    def __gt__(self, other: object) -> bool:
        return str(self) > str(other)

    def __str__(self) -> str:
        facts = [repr(self.name)]
        if self.layers is not None:
            facts.append("layers=traced" if isinstance(self.layers, jax.core.Tracer) else f"layers={self.layers}")
        return f"at({', '.join(facts if self.path is None else [*facts, f'path={self.path!r}'])})"


def at(name: str, layers: Layers = None, path: str | None = None) -> At:
    """Name sites for `patch`, `capture` and `split`.

    Args:
        name: a tag's name.
        layers: "all", a number, several, or a traced number; needed where the name stands for several layers.
        path: a glob pattern for the path.
    """
    return At(name, layers, path)


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
        UnknownTag, NeedsLayer, LayerOutOfRange: as `Site.save`.
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
    function: Callable[..., Any], edits: Mapping[Any, Any], *, cast: bool = False, checkpoint_names: bool = False
) -> Callable[..., Any]:
    """A function with values inside the model changed.

    Args:
        function: the model.
        edits: `at(...)` or a tag's name, with a function of the value, or the value to put there. Of two edits of one
            site the second sees what the first wrote.
        cast: as in `Site.set`.
        checkpoint_names: as in `run`.

    Returns: a function of the same arguments and result.

    Raises, when it is called: as `Site.edit`; UnusedIntervention: the model did not come by a site.
    """

    def patched(*args: Any, **kwargs: Any) -> Any:
        with Run(function, args, kwargs, checkpoint_names=checkpoint_names) as run:
            for key, change in edits.items():
                _write(_merged(key, None), change, run, cast=cast)
        return run.result

    return patched


def _merged(key: Any, layers: Layers) -> At:
    if not isinstance(key, At):
        return At(key, layers)
    if layers is not None and key.layers is not None:
        raise InstrumentError(f"{key}: layers are given twice")
    return At(key.name, layers if key.layers is None else key.layers, key.path)


def rows_of(where: At, table: SiteTable) -> list[SiteRow]:
    """The sites that are meant: one in stacked layers, or any number outside of them.

    Raises:
        UnknownTag: there are none.
        InstrumentError: several scans have the tag, or a scan and the layers around it.
        NeedsLayer: several sites, and no layers are given.
    """
    rows = table.expect(where.name, where.path)
    names = sorted({row.name for row in rows})
    if len(names) > 1:
        raise InstrumentError(f"{where} matches several tags, {', '.join(names)}: name each by itself")
    stacked = [row for row in rows if row.length is not None]
    if stacked and len(rows) > 1:
        places = ", ".join(f"{row.path or 'top'} ({row.source})" for row in rows)
        raise InstrumentError(
            f"{where} is tagged in several places, whose layers count separately: {places}. Give path="
        )
    if len(rows) > 1 and where.layers is None:
        raise NeedsLayer(f'{where} stands for {len(rows)} sites: pass layers=... (numbers or "all"), or path=')
    return rows


def unrolled(where: At, rows: list[SiteRow]) -> Chosen:
    """The chosen layers among sites outside of stacked layers.

    Raises:
        LayerOutOfRange: a number that none of them has.
    """
    chosen = Chosen(None) if where.layers is None else choose(where.layers, None)
    there = [row.layer for row in rows]
    if isinstance(chosen.numbers, tuple):
        for number in chosen.numbers:
            if number not in there:
                raise LayerOutOfRange(f"{where}: no layer {number} among the sites, which are {there}")
    return chosen


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
        run.intervene(where.name, self._read, where.path, f"capture of {where}")

    def _read(self, site: Site) -> None:
        if self._stacked:
            self._kept[0] = site.save(layers=self._where.layers)
        elif self._chosen is not None and self._chosen.has(site.layer):
            self._kept[site.layer] = site.save()

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
        return jnp.stack(leaves)


def _write(where: At, change: Any, run: Run, *, cast: bool) -> None:
    rows = rows_of(where, run.table)
    checked = rows[0].length is not None or unrolled(where, rows).known

    def edit(site: Site) -> None:
        if not checked and site.layer == rows[0].layer:
            _spoil_if_outside(site, where.layers, [row.layer for row in rows])
        if callable(change):
            site.edit(change, layers=where.layers, cast=cast)
        else:
            site.set(change, layers=where.layers, cast=cast)

    run.intervene(where.name, edit, where.path, f"patch at {where}")


def _spoil_if_outside(site: Site, layers: Any, there: list[int | None]) -> None:
    """A traced number that is no layer cannot be refused: the first layer's value becomes NaN."""
    outside = jnp.any(~jnp.isin(layers, jnp.asarray(there)))

    def spoilt(leaf: Any) -> Any:
        return jnp.full_like(leaf, jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf

    site.edit(lambda value: jax.tree.map(spoilt, value), layers=jnp.where(outside, site.layer, -1))
