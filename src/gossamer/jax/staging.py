"""Staging: the model's Python is run once, to a jaxpr, by itself; no experimenter's code is in it."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from gossamer.jax import compat
from gossamer.jax.errors import InstrumentError, NeedsLive
from gossamer.jax.tag import ARRAY_TYPES

CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
TYPED = (*ARRAY_TYPES, bool, int, float, complex)


@dataclass
class Staged:
    """A function as a jaxpr, with the arguments that it was staged for.

    Args:
        closed: the jaxpr, from the leaves of the arguments that are arrays.
        args: those leaves.
        returned: the leaves of what the function returns that JAX has no type for, such as the functions in a module;
            None in the places of the others, which the jaxpr gives.
        out_tree: their tree.
    """

    closed: Any
    args: list[Any]
    returned: list[Any]
    out_tree: Any

    def result(self, outs: list[Any]) -> Any:
        """What the function returns, from the results of the jaxpr."""
        values = iter(outs)
        leaves = [next(values) if leaf is None else leaf for leaf in self.returned]
        return jax.tree.unflatten(self.out_tree, leaves)


def stage(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Staged:
    """Trace `function(*args, **kwargs)`. Arrays among the arguments are traced; all else is taken as it is.

    Raises:
        NeedsLive: the function's Python needs concrete values, or changes the state of its modules.
    """
    leaves, tree = jax.tree.flatten((args, kwargs))
    arrays = [at for at, leaf in enumerate(leaves) if isinstance(leaf, ARRAY_TYPES)]
    values = [leaves[at] for at in arrays]
    # What is not traced stays; the arrays must not be kept here, or the closure would hold them for good.
    fixed = [None if at in set(arrays) else leaf for at, leaf in enumerate(leaves)]
    returned: list[Any] = []
    out_tree = None

    def flat(*given: Any) -> list[Any]:
        nonlocal returned, out_tree
        filled = list(fixed)
        for at, value in zip(arrays, given, strict=True):
            filled[at] = value
        again, named = jax.tree.unflatten(tree, filled)
        results, out_tree = jax.tree.flatten(function(*again, **named))
        returned = [None if isinstance(leaf, TYPED) else leaf for leaf in results]
        return [leaf for leaf in results if isinstance(leaf, TYPED)]

    try:
        closed = compat.traced(flat, *values)
    except CONCRETE as error:
        raise NeedsLive(
            f"the model cannot be staged, for its Python needs a concrete value: {_first_line(error)} "
            "Use run(..., mode='live'), outside of jit."
        ) from error
    except Exception as error:
        if type(error).__name__ == "TraceContextError":
            raise NeedsLive(
                f"the model cannot be staged, for it changes the state of its modules: {_first_line(error)} "
                "Use nnx.split and nnx.merge inside the function, or run(..., mode='live')."
            ) from error
        raise
    return Staged(closed, values, returned, out_tree)


def refuse_shared(function: Callable[..., Any], **given: bool) -> None:
    """A keyword of a run that the model has, too: which of them it is for cannot be told.

    Args:
        given: for each keyword, whether it was passed.

    Raises:
        InstrumentError: the model has an argument of the name of one that was.
    """
    try:
        named = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in functions have none
        return
    settled = function.keywords if isinstance(function, functools.partial) else {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for keyword, passed in given.items():
        if passed and keyword not in settled and keyword in named and named[keyword].kind in kinds:
            raise InstrumentError(
                f"{keyword}= is an argument of the run and of the model: give the model's own first, "
                f"functools.partial(model, {keyword}=...)"
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."
