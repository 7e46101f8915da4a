"""JAX's leak checker around a trace: nothing is compiled, and nothing is found in JAX's caches of traces."""

from typing import Any

import jax


def leakless(function: Any, *args: Any) -> Any:
    """The types of `function(*args)`, traced once.

    Raises:
        Exception: JAX's own, "Leaked trace": a value of it, or of a body inside it, is still held when that has ended.
    """
    with jax.checking_leaks():
        return jax.eval_shape(function, *args)
