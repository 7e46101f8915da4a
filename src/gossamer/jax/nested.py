"""Tags inside `jit` (inlined), `remat` (built again with its policy) and `cond` (written in each branch)."""

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax

from gossamer.jax import compat
from gossamer.jax.driver import refuse_unfinished
from gossamer.jax.scope import Scope
from gossamer.jax.uses import Used

# A value that leaves a body is met by JAX when the run is long over: its error names the function that was traced.
LEAK_HINT = "the_body_of_a_scan_or_remat__keep_values_of_it_with_site_save"


@runtime_checkable
class Interprets(Protocol):
    """What opens a body's jaxpr: the interpreter."""

    def evaluate(
        self, jaxpr: Any, consts: list[Any], args: list[Any], scope: Scope, stack: Any, used: Used
    ) -> list[Any]: ...

    def pass_by(self, inners: Any) -> None: ...

    def uncounted(self) -> contextlib.AbstractContextManager[None]: ...

    def end(self, trace: Any, taken: list[Any], where: str) -> None: ...


def path_inside(scope: Scope, stack: Any, eqn: Any) -> str:
    """The path of an equation and its body, as shown to the user."""
    return "/".join(part for part in (scope.path, str(stack + compat.names_of(eqn))) if part)


def inline(interpreter: Interprets, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used) -> list[Any]:
    """A nested `jit`: its equations become the caller's; its explicit shardings are said again."""
    jaxpr, consts = compat.opened(compat.called(eqn))
    args = _sharded(values, eqn.params.get("in_shardings"))
    results = interpreter.evaluate(jaxpr, consts, args, scope, stack + compat.names_of(eqn), used)
    return _sharded(results, eqn.params.get("out_shardings"))


def _sharded(values: list[Any], shardings: Any) -> list[Any]:
    if not shardings:
        return values
    return [compat.apply_sharding(value, sharding) for value, sharding in zip(values, shardings, strict=True)]


def remat(interpreter: Interprets, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used) -> list[Any]:
    """A remat: the same policy around the interpreted body; saved values leave as further results."""
    inner = scope.inside("remat", path_inside(scope, stack, eqn))
    body = trace_body(interpreter, eqn.params["jaxpr"], used, lambda _: inner)
    options = {"prevent_cse": eqn.params["prevent_cse"], "policy": eqn.params["policy"]}
    with compat.context_of(eqn, stack), compat.x64_for([*body.closed.in_avals, *body.closed.out_avals]):
        results = jax.checkpoint(lambda *args: compat.evaluate(body.closed, *args), **options)(*values)
    own, saved = body.split(results)
    pass_out(inner, saved, scope)
    return own


def branch(interpreter: Interprets, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used) -> list[Any]:
    """A cond: where the choice is known its branch is inlined; otherwise each branch is built again."""
    index, *operands = values
    branches = eqn.params["branches"]
    if not isinstance(index, jax.core.Tracer):
        taken = min(max(int(index), 0), len(branches) - 1)
        interpreter.pass_by(branches[:taken])
        jaxpr, consts = compat.opened(branches[taken])
        return interpreter.evaluate(jaxpr, consts, operands, scope, stack + compat.names_of(eqn), used)
    path = path_inside(scope, stack, eqn)
    bodies = [trace_body(interpreter, one, used, lambda _: scope.inside("cond", path)) for one in branches]
    types = [atom.aval for atom in eqn.outvars]
    with compat.context_of(eqn, stack), compat.x64_for([*bodies[0].closed.in_avals, *types]):
        return list(jax.lax.switch(index, [_branch(body, types) for body in bodies], *operands))


def _branch(body: "Body", types: list[Any]) -> Any:
    """Branches must agree in their types, weak ones too: they agree on the model's dtypes."""

    def call(*args: Any) -> list[Any]:
        results = compat.evaluate(body.closed, *args)
        return [compat.typed_as(value, aval) for value, aval in zip(results, types, strict=True)]

    return call


@dataclass(frozen=True)
class Body:
    """A body that was traced with the experimenter in it.

    Args:
        closed: its jaxpr; the results are the body's own and then the leaves of what was saved in it.
        count: how many results are its own.
        saved: the tree of what was saved.
    """

    closed: Any
    count: int
    saved: Any

    def split(self, results: list[Any]) -> tuple[list[Any], list[tuple[Any, Any]]]:
        """The body's own results, and for every save its value and the rows that were written."""
        return list(results[: self.count]), jax.tree.unflatten(self.saved, results[self.count :])

    def saved_types(self) -> list[tuple[Any, Any]]:
        """The types of what was saved, in the form of `split`."""
        return jax.tree.unflatten(self.saved, self.closed.out_avals[self.count :])


def trace_body(
    interpreter: Interprets, inner: Any, used: Used, scope_of: Callable[[Any], Scope], step: Any = None
) -> Body:
    """Trace a body once, stopping at its tags.

    Args:
        inner: the body's jaxpr.
        used: which of its results are used.
        scope_of: opens its scope, given the traced number of the step.
        step: the type of that number; without it the body has no steps.
    """
    jaxpr, consts = compat.opened(inner)
    tree: Any = None
    trace: Any = None
    path = ""

    def traced(number: Any, *args: Any) -> list[Any]:
        nonlocal tree, trace, path
        scope = scope_of(number)
        scope.level = compat.here()
        trace, path = weakref.ref(scope.level.trace), scope.path
        # The run may stand still here: the caller's setting must be in force.
        with compat.x64(on=outside):
            results = interpreter.evaluate(jaxpr, list(consts), list(args), scope, compat.no_names(), used)
        saved, tree = jax.tree.flatten(scope.release())
        return [*results, *saved]

    traced.__name__ = LEAK_HINT
    outside, types = compat.x64_is_on(), [atom.aval for atom in jaxpr.invars]
    with compat.x64_for(types):
        closed = compat.traced(traced, step, *map(compat.like, types))
    refuse_unfinished(trace())
    interpreter.end(trace, closed.consts, f"the body at {path or 'the top'}")
    return Body(closed, len(jaxpr.outvars), tree)


def pass_out(inner: Scope, saved: list[tuple[Any, Any]], scope: Scope) -> None:
    """Hand what was saved in an inner scope on to the outer one, now that it has values there."""
    for kept, (value, written) in zip(inner.kept, saved, strict=True):
        kept.value, kept.written = value, written
        scope.keep(kept)
