"""Loop peeling: chosen layers leave their scan and run one by one, so that free-form Python can see them.

`scan[0:3]`, layer 3, `scan[4:9]`, layer 9, ...: compile time grows with the peeled layers, about one layer each.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gossamer.jax import compat
from gossamer.jax.layers import Layers, choose
from gossamer.jax.nested import Interprets
from gossamer.jax.scans import warn_eager
from gossamer.jax.scope import Scope
from gossamer.jax.uses import Used

Peel = Callable[[Scope, int], Sequence[int]]  # where a scan is met, and its length: the steps that leave it


def numbers_of(peel: Any) -> list[int]:
    """The `peel` of a run: one number or several."""
    return [int(peel)] if isinstance(peel, (int, np.integer)) else list(peel)


def nothing(scope: Scope, length: int) -> Sequence[int]:
    """Every scan stays whole."""
    return ()


def outermost(layers: Layers) -> Peel:
    """These layers leave the outermost scans; scans inside of them stay whole.

    Raises, when a scan is met:
        LayerOutOfRange: it has no such layer.
    """

    def steps(scope: Scope, length: int) -> Sequence[int]:
        return tuple(choose(layers, range(length)).numbers or ()) if scope.layer is None else ()

    return steps if layers else nothing


def one_of(number: int, total: int) -> Peel:
    """One layer, counted over all scans around it: a step leaves each of them.

    A scan that is not around that layer loses a step too, which changes no result.
    """

    def steps(scope: Scope, length: int) -> Sequence[int]:
        inside = max(total // (scope.total * length), 1)  # layers in one step of this scan
        return () if scope.stacked else (number // inside % length,)

    return steps


def peeled(
    interpreter: Interprets, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used, steps: Sequence[int]
) -> list[Any]:
    """Interpret a scan equation with some steps taken out; only those are visited.

    The stacked weights are indexed, not sliced: slices would be copies of them.
    """
    form = compat.scan_form(eqn)
    warn_eager()
    alone = set(steps)
    consts, state, xs = form.operands(values)
    jaxpr, inner_consts = compat.opened(form.body)
    state = form.started(eqn, state)
    parts: list[tuple[int, list[Any]]] = []
    for start, stop in _segments(form.length, alone, form.reverse):
        if start in alone:
            # The names around the scan are in the stack that its equations are evaluated with: not in the path again.
            inner = scope.step("layer", scope.path, start, form.length)
            with compat.x64_for(xs):
                x = [jax.lax.index_in_dim(leaf, start, keepdims=False) for leaf in xs]
            with interpreter.uncounted():
                results = interpreter.evaluate(
                    jaxpr, list(inner_consts), [*consts, *state, *x], inner, stack + compat.names_of(eqn), used
                )
            state, ys = results[: form.carries], [leaf[None] for leaf in results[form.carries :]]
        else:
            with compat.context_of(eqn, stack), compat.x64_for(form.body.in_avals):
                state, ys = _segment(form, consts, state, xs, start, stop)
        parts.append((start, ys))
    stacked = zip(*(ys for _, ys in sorted(parts, key=lambda part: part[0])), strict=True)
    with compat.x64_for(form.body.out_avals):
        return [*state, *(jnp.concatenate(pieces) for pieces in stacked)]


def _segments(length: int, alone: set[int], reverse: bool) -> list[tuple[int, int]]:
    """The steps in the order that they run, as ranges; a peeled one by itself."""
    edges = sorted({0, length, *alone, *(number + 1 for number in alone)})
    ranges = list(pairwise(edges))
    return ranges[::-1] if reverse else ranges


def _segment(form: compat.ScanForm, consts: Any, state: Any, xs: Any, start: int, stop: int) -> tuple[Any, Any]:
    """Some steps of the scan as they are."""

    def step(carry: Any, number: Any) -> Any:
        x = [jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False) for leaf in xs]
        results = compat.evaluate(form.body, *consts, *carry, *x)
        new = [compat.typed_as(value, old) for value, old in zip(results, carry, strict=False)]
        return new, results[form.carries :]

    return jax.lax.scan(step, state, jnp.arange(start, stop, dtype=jnp.int32), reverse=form.reverse, **form.options)
