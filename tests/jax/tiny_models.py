"""One small residual network with its tag in many places, and the same by hand: the reference of the tests.

All of them are the same function: ``x <- x + h(x, w)`` with ``h = tanh(x w)`` for each layer, and "h" is tagged.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gossamer.jax import tag

LAYERS, DIM = 4, 3
WEIGHTS = jax.random.normal(jax.random.key(0), (LAYERS, DIM, DIM)) / 2
INPUT = jax.random.normal(jax.random.key(1), (2, DIM))


def by_hand(weights: Any, x: Any, edit: Callable[[int, Any], Any] = lambda _, h: h) -> tuple[Any, list[Any]]:
    """The result, and what `edit(layer, h)` was given at each layer."""
    seen = []
    for layer in range(len(weights)):
        h = jnp.tanh(x @ weights[layer])
        seen.append(h)
        x = x + edit(layer, h)
    return x, seen


def block(x: Any, w: Any) -> Any:
    return x + tag("h", jnp.tanh(x @ w))


def unrolled_in(wrap: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def model(weights: Any, x: Any) -> Any:
        for layer in range(len(weights)):
            x = wrap(block)(x, weights[layer])
        return x

    return model


def scanned_in(wrap: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def model(weights: Any, x: Any) -> Any:
        return jax.lax.scan(wrap(lambda x, w: (block(x, w), None)), x, weights)[0]

    return model


def nested_scan(weights: Any, x: Any) -> Any:
    def group(x: Any, some: Any) -> Any:
        return jax.lax.scan(lambda x, w: (block(x, w), None), x, some)

    return jax.lax.scan(group, x, weights.reshape(2, -1, *weights.shape[1:]))[0]


def counted_loop(weights: Any, x: Any) -> Any:
    return jax.lax.fori_loop(0, len(weights), lambda layer, x: block(x, weights[layer]), x)


def over_rows(function: Any) -> Any:
    return jax.vmap(function, in_axes=(0, None))


def branching(function: Any) -> Any:
    """A choice that is known as the model is traced: the same for all."""
    return lambda x, w: jax.lax.cond(True, function, lambda x, w: x, x, w)


def branching_on_value(function: Any) -> Any:
    """A choice that depends on the data, and comes out as the model."""
    return lambda x, w: jax.lax.cond(jnp.sum(x**2) >= 0, function, lambda x, w: 0 * x, x, w)


UNROLLED = {
    "top": unrolled_in(lambda f: f),
    "jit": unrolled_in(jax.jit),
    "nested jit": unrolled_in(lambda f: jax.jit(jax.jit(f))),
    "remat": unrolled_in(jax.checkpoint),
    "inner vmap": unrolled_in(over_rows),
    "known cond": unrolled_in(branching),
}
STACKED = {
    "scan": scanned_in(lambda f: f),
    "jit of scan": jax.jit(scanned_in(lambda f: f)),
    "scan of jit": scanned_in(jax.jit),
    "scan of remat": scanned_in(jax.checkpoint),
    "remat of scan": jax.checkpoint(scanned_in(lambda f: f)),
    "nested scan": nested_scan,
    "fori_loop": counted_loop,
}
PLACES = {**UNROLLED, **STACKED}
