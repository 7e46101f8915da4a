"""The same reads and writes with other tools, on the same weights: flax `sow`, equinox `tree_at`.

Each tool is used as its documentation shows; the lines counted are those that the experimenter writes. oryx 0.2.9 does
not import beside JAX 0.10.2 (its tensorflow-probability wants an older one), so that its `harvest` has no row.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax_instrument import (
    MIB,
    Compiled,
    Size,
    best_times,
    block,
    compiled,
    input_of,
    lines_of,
    scanned,
    untagged,
    weights_of,
)
from rows import Row, row, say

from gossamer.jax import at, capture, patch


def peers(size: Size) -> list[Row]:
    """Rows of the tools that are installed."""
    rows = []
    for tool in (flax_sow, equinox_tree_at, penzai_insert):
        try:
            rows += tool(size)
        except ImportError as error:
            say(f"{tool.__name__}: left out, {error}", as_json=True)
    return rows


def compare(what: str, ours: Any, theirs: Any, size: Size, *args: Any) -> list[Row]:
    """Lines, compile time, memory, run time and the results of one experiment, ours and theirs: (function, source)."""
    both: list[Compiled] = [compiled(function, *args) for function, _ in (ours, theirs)]
    lines = [lines_of(source) for _, source in (ours, theirs)]
    seconds = best_times(size.repeats, both, *args)
    memory = [(one.temporary + one.results) / MIB for one in both]
    results = [jax.tree.leaves(one.call(*args)) for one in both]
    apart = max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(*results, strict=True))
    numbers = (
        ("lines of user code", *lines, "lines"),
        ("compile", *(one.seconds for one in both), "s"),
        ("memory", *memory, "MiB"),
        ("run time", *(1e3 * one for one in seconds), "ms"),
    )
    rows = [
        row(f"{what}: {name}", mine, other, unit, "<= 1.05", mine <= 1.05 * other)
        for name, mine, other, unit in numbers
    ]
    return [*rows, row(f"{what}: results apart", apart, 1e-4, "abs", "<= 1e-4", apart <= 1e-4)]


def flax_sow(size: Size) -> list[Row]:
    """Read one layer's activation of a scanned flax module: sow stacks those of all layers."""
    from flax import linen as nn

    layer = size.middle // 2

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any, _: Any) -> Any:
            w = {name: self.param(name, nn.initializers.zeros, (size.width, size.width)) for name in ("up", "down")}

            def sown(name: str, value: Any) -> Any:
                if name == "mlp_act":
                    self.sow("intermediates", name, value)
                return value

            return block(x, w, sown), None

    stack = nn.scan(
        Block, variable_axes={"params": 0, "intermediates": 0}, split_rngs={"params": True}, length=size.middle
    )

    def with_sow(weights: Any, x: Any) -> Any:
        (out, _), sown = stack().apply({"params": weights}, x, None, mutable=["intermediates"])
        return out, sown["intermediates"]["mlp_act"][0][layer]

    def with_capture(weights: Any, x: Any) -> Any:
        out, found = capture(scanned, {"mlp_act": layer})(weights, x)
        return out, found["mlp_act"]

    args = weights_of(size, size.middle), input_of(size)
    pairs = (with_capture, with_capture), (with_sow, with_sow)
    return compare(f"flax sow, read 1 of {size.middle} scanned layers", *pairs, size, *args)


def steered(layer: int, v: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Ours for writing one layer's output, and what of it is the experimenter's."""

    def with_patch(weights: Any, x: Any) -> Any:
        return patch(scanned, {at("resid", layers=layer): lambda h: h + v})(weights, x)

    return with_patch, with_patch


def equinox_tree_at(size: Size) -> list[Row]:
    """Write one layer's output: in equinox a wrapper takes the layer's place, in layers that are unrolled for it."""
    import equinox as eqx

    layer, layers = size.middle // 2, size.middle
    v = jnp.ones(size.width)

    class Block(eqx.Module):
        w: dict[str, Any]

        def __call__(self, x: Any) -> Any:
            return block(x, self.w, untagged)

    class Steered(eqx.Module):
        inner: Any
        v: Any

        def __call__(self, x: Any) -> Any:
            return self.inner(x) + self.v

    def with_tree_at(weights: Any, x: Any) -> Any:
        model = [Block(jax.tree.map(lambda leaf, n=n: leaf[n], weights)) for n in range(layers)]
        model = eqx.tree_at(lambda m: m[layer], model, Steered(model[layer], v))
        for one in model:
            x = one(x)
        return x

    def user_lines() -> Callable[..., Any]:
        class Steered(eqx.Module):
            inner: Any
            v: Any

            def __call__(self, x: Any) -> Any:
                return self.inner(x) + self.v

        return lambda model: eqx.tree_at(lambda m: m[layer], model, Steered(model[layer], v))

    args, ours = (weights_of(size, layers), input_of(size)), steered(layer, v)
    what = f"equinox tree_at (unrolled), write 1 of {layers} layers"
    return compare(what, ours, (with_tree_at, user_lines), size, *args)


def penzai_insert(size: Size) -> list[Row]:
    """Write one layer's output: in penzai a layer is inserted behind it, in layers that are unrolled for it."""
    from penzai import pz

    layer, layers = size.middle // 2, size.middle
    v = jnp.ones(size.width)

    @pz.pytree_dataclass
    class Block(pz.nn.Layer):
        w: dict[str, Any]

        def __call__(self, x: Any, **side_inputs: Any) -> Any:
            return block(x, self.w, untagged)

    @pz.pytree_dataclass
    class Steer(pz.nn.Layer):
        v: Any

        def __call__(self, x: Any, **side_inputs: Any) -> Any:
            return x + self.v

    def with_insert(weights: Any, x: Any) -> Any:
        model = pz.nn.Sequential([Block(jax.tree.map(lambda leaf, n=n: leaf[n], weights)) for n in range(layers)])
        return pz.select(model).at(lambda m: m.sublayers[layer]).insert_after(Steer(v))(x)

    def user_lines() -> Callable[..., Any]:
        @pz.pytree_dataclass
        class Steer(pz.nn.Layer):
            v: Any

            def __call__(self, x: Any, **side_inputs: Any) -> Any:
                return x + self.v

        return lambda model: pz.select(model).at(lambda m: m.sublayers[layer]).insert_after(Steer(v))

    args, ours = (weights_of(size, layers), input_of(size)), steered(layer, v)
    what = f"penzai insert_after (unrolled), write 1 of {layers} layers"
    return compare(what, ours, (with_insert, user_lines), size, *args)
