"""Conditional sowing: a scan built again around its interpreted body, keeping chosen layers only.

The body is traced once, with the experimenter in it; what is saved there becomes a further result of the body. Around
it the scan carries one buffer a save, with a row for each chosen layer, and writes a step's value if its layer is
chosen. So compile time does not grow with depth, and memory grows with the chosen layers only. The buffers stay outside
of any remat of the body, whose residuals they would otherwise be.

Source of the idea: conditional sowing of Kramár (2024), `instrument_flax_loop` of mishax, `sow_cond` of oryx.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gossamer.jax import compat
from gossamer.jax.errors import EagerRunWarning
from gossamer.jax.layers import nan_where
from gossamer.jax.nested import Interprets, pass_out, path_inside, trace_body
from gossamer.jax.scope import Kept, Scope
from gossamer.jax.uses import Used


def scan(interpreter: Interprets, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used) -> list[Any]:
    """Interpret a scan equation: each of its tags is one site, which stands for all steps."""
    form = compat.scan_form(eqn)
    warn_eager()
    consts, init, xs = form.operands(values)
    opened: list[Scope] = []

    def scope_of(number: Any) -> Scope:
        opened.append(scope.step("scan", path_inside(scope, stack, eqn), number, form.length))
        return opened[-1]

    body = trace_body(interpreter, form.body, used, scope_of, jax.ShapeDtypeStruct((), jnp.int32))
    (inner,) = opened
    base = 0 if scope.layer is None else scope.layer * form.length
    slots = [_Slot(kept, *one, scope.stacked) for kept, one in zip(inner.kept, body.saved_types(), strict=True)]

    def step(carry: Any, inputs: Any) -> Any:
        state, buffers = carry
        number, x = inputs
        results, saved = body.split(compat.evaluate(body.closed, number, *consts, *state, *x))
        state = [compat.typed_as(value, old) for value, old in zip(results, state, strict=False)]
        rows = [slot.put(b, *one, number + base) for slot, b, one in zip(slots, buffers, saved, strict=True)]
        return (state, [row[0] for row in rows]), (results[form.carries :], [row[1] for row in rows])

    types = [*body.closed.in_avals, *body.closed.out_avals]
    with compat.context_of(eqn, stack), compat.x64_for(types):
        start = form.started(eqn, init), [slot.start() for slot in slots]
        numbers = jnp.arange(form.length, dtype=jnp.int32)
        (final, buffers), (ys, stacks) = jax.lax.scan(
            step, start, (numbers, xs), length=form.length, reverse=form.reverse, **form.options
        )
    with compat.x64_for(types):
        ends = [slot.end(b, y) for slot, b, y in zip(slots, buffers, stacks, strict=True)]
    pass_out(inner, ends, scope)
    return [*final, *ys]


_warned = False


def warn_eager() -> None:
    """Say once that a scan outside of jit is compiled anew by every run."""
    global _warned
    if not _warned and compat.is_eager(compat.current_trace()):
        _warned = True
        text = "a run of stacked layers outside of jax.jit compiles them at every call: put the function in jax.jit"
        warnings.warn(text, EagerRunWarning, stacklevel=2)


@dataclass(frozen=True)
class _Slot:
    """How one save leaves a scan.

    Args:
        kept: the save; its layers are chosen among all layers of the scans around.
        value, written: the types of what the body gives (written: None where the value is of one step).
        nested: another scan is around this one, and must know which rows were reached.
    """

    kept: Kept
    value: Any
    written: Any
    nested: bool

    @property
    def all(self) -> bool:
        return self.kept.chosen is None or self.kept.chosen.numbers is None

    def start(self) -> Any:
        """The carry before the first step."""
        if self.all:
            return None
        chosen = self.kept.chosen
        assert chosen is not None
        rows = [] if self.kept.rows else [chosen.count]
        buffer = jax.tree.map(
            lambda leaf: compat.placed_as(jnp.zeros((*rows, *leaf.shape), leaf.dtype), leaf), self.value
        )
        if chosen.unchecked:
            # NaN in the rows that no step will write, and nowhere else: `jax.debug_nans` would find it.
            buffer = nan_where(buffer, jnp.reshape(chosen.outside(), (-1,)))
        marks = jnp.zeros(chosen.count, bool) if self.nested else None
        return buffer, marks

    def put(self, carry: Any, value: Any, written: Any, layer: Any) -> tuple[Any, Any]:
        """One step: the new carry, and what is stacked over all steps."""
        if self.all:
            return None, value
        buffer, marks = carry
        if self.kept.rows:
            return self._merge(buffer, marks, value, written), None
        chosen = self.kept.chosen
        assert chosen is not None
        pick, slot = chosen.has(layer), chosen.slot(layer)
        if chosen.known:
            # A branch that is not taken leaves the buffer where it is: no copy, no further memory.
            buffer = jax.lax.cond(pick, lambda b: _write_row(b, value, slot), lambda b: b, buffer)
        else:
            # Under vmap over the layer a cond would become a select of whole buffers: select one row instead.
            row = jax.tree.map(lambda b, v: jnp.where(pick, v, _row(b, slot)), buffer, value)
            buffer = _write_row(buffer, row, slot)
        return (buffer, None if marks is None else marks.at[slot].set(marks[slot] | pick)), None

    def _merge(self, buffer: Any, marks: Any, value: Any, written: Any) -> tuple[Any, Any]:
        """Rows that an inner scan has filled replace those of this one."""

        def pick(old: Any, new: Any) -> Any:
            return jnp.where(written.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        merged = jax.lax.cond(jnp.any(written), lambda b: jax.tree.map(pick, b, value), lambda b: b, buffer)
        return merged, None if marks is None else marks | written

    def end(self, carry: Any, stacked: Any) -> tuple[Any, Any]:
        """Value and written rows, outside of the scan."""
        value, written = (stacked, None) if self.all else carry
        if self.all and self.kept.rows:
            value = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), value)
        self.kept.rows = True
        return jax.tree.map(compat.typed_as, value, self.value), written


def _row(buffer: Any, slot: Any) -> Any:
    return jax.lax.dynamic_index_in_dim(buffer, slot, keepdims=False)


def _write_row(buffer: Any, row: Any, slot: Any) -> Any:
    return jax.tree.map(lambda b, v: jax.lax.dynamic_update_index_in_dim(b, v, slot, 0), buffer, row)
