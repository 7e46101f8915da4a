"""Instrumented JAX models side by side with hand-written ones, and with the tools that there are.

    python benchmarks/jax_instrument.py [--quick] [--json] [--skip-peers]

The model is a residual network with its layers in a scan. "theirs" is a scan written by hand for the purpose, the
unrolled model, or another tool, in the same process on the same weights. Memory is what XLA allots for temporaries and
results (`memory_analysis`); run times are the best of several, taken in turn.
"""

import argparse
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from rows import Row, row, show

from gossamer.jax import at, capture, patch, run, tag

MIB = 2**20


@dataclass(frozen=True)
class Size:
    """What is measured: depths, width, tokens, and how often run times are taken."""

    shallow: int = 4
    middle: int = 48
    deep: int = 96
    width: int = 256
    tokens: int = 1024
    repeats: int = 7
    compiles: int = 3


QUICK = Size(middle=24, deep=48, width=128, tokens=256, repeats=3, compiles=2)


# The model, tagged and not.


def block(x: Any, w: dict[str, Any], t: Callable[[str, Any], Any]) -> Any:
    h = t("mlp_act", jax.nn.gelu(x @ w["up"]))
    return t("resid", x + t("mlp_out", h @ w["down"]) / 4)


def weights_of(size: Size, layers: int) -> dict[str, Any]:
    up, down = jax.random.split(jax.random.key(0))
    shape = (layers, size.width, size.width)
    return {"up": jax.random.normal(up, shape) / size.width**0.5, "down": jax.random.normal(down, shape) / 16}


def input_of(size: Size) -> Any:
    return jax.random.normal(jax.random.key(1), (size.tokens, size.width))


def untagged(_: str, x: Any) -> Any:
    return x


def scanned(weights: Any, x: Any, t: Any = tag) -> Any:
    return jax.lax.scan(lambda x, w: (block(x, w, t), None), x, weights)[0]


def unrolled(weights: Any, x: Any, t: Any = tag) -> Any:
    for layer in range(len(weights["up"])):
        x = block(x, jax.tree.map(lambda leaf, layer=layer: leaf[layer], weights), t)
    return x


def remat_scanned(weights: Any, x: Any, t: Any = tag) -> Any:
    return jax.lax.scan(jax.checkpoint(lambda x, w: (block(x, w, t), None)), x, weights)[0]


# The intervention: two saves and an edit. By hand, by us.


def chosen(layers: int) -> tuple[int, int, int]:
    return layers // 4, layers // 2, layers // 2 + 1


def ours(model: Any, layers: int) -> Callable[..., Any]:
    first, second, edited = chosen(layers)

    def function(weights: Any, x: Any, v: Any) -> Any:
        with run(model, weights, x) as r:
            acts = r.until("mlp_act").save(layers=[first, second])
            r.until("mlp_out").edit(lambda h: h + v, layers=edited)
        return r.result, acts.value

    return function


def ours_unrolled(layers: int, model: Any = unrolled) -> Callable[..., Any]:
    first, second, edited = chosen(layers)

    def function(weights: Any, x: Any, v: Any) -> Any:
        edits = {at("mlp_out", layers=edited): lambda h: h + v}
        out, found = capture(patch(model, edits), {"mlp_act": [first, second]})(weights, x)
        return out, found["mlp_act"]

    return function


def by_hand(layers: int, count: int = 2) -> Callable[..., Any]:
    """What one would write into the model: a carried buffer, and an index."""
    first, second, edited = chosen(layers)
    kept = jnp.array([first, second, 0, layers - 1][:count])

    def function(weights: Any, x: Any, v: Any) -> Any:
        def body(carry: Any, inputs: Any) -> Any:
            x, buffer = carry
            w, layer = inputs
            h = jax.nn.gelu(x @ w["up"])
            hit = jnp.any(kept == layer)
            row = jnp.argmax(kept == layer)
            buffer = jax.lax.cond(hit, lambda b: b.at[row].set(h), lambda b: b, buffer)
            out = h @ w["down"]
            out = jax.lax.cond(layer == edited, lambda o: o + v, lambda o: o, out)
            return (x + out / 4, buffer), None

        buffer = jnp.zeros((count, *x.shape))
        return jax.lax.scan(body, (x, buffer), (weights, jnp.arange(layers)))[0]

    return function


def save_all(layers: int) -> Callable[..., Any]:
    """What a sow in a scan does: every layer's activation is stacked, and most are thrown away."""
    first, second, edited = chosen(layers)

    def function(weights: Any, x: Any, v: Any) -> Any:
        def body(x: Any, inputs: Any) -> Any:
            w, layer = inputs
            h = jax.nn.gelu(x @ w["up"])
            out = h @ w["down"]
            return x + jnp.where(layer == edited, out + v, out) / 4, h

        out, stacked = jax.lax.scan(body, x, (weights, jnp.arange(layers)))
        return out, stacked[jnp.array([first, second])]

    return function


# Measuring.


@dataclass(frozen=True)
class Compiled:
    """A compiled function with what it cost: seconds to trace and compile, bytes of temporaries and results."""

    call: Callable[..., Any]
    seconds: float
    temporary: int
    results: int


def compiled(function: Callable[..., Any], *args: Any) -> Compiled:
    start = time.perf_counter()
    program = jax.jit(lambda *given: function(*given)).lower(*args).compile()  # a new function: no cache knows it
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    return Compiled(program, seconds, memory.temp_size_in_bytes, memory.output_size_in_bytes)


def best_times(repeats: int, functions: list[Compiled], *args: Any) -> list[float]:
    """The best run time of each, taken in turn so that all meet the same machine."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for at_, one in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(one.call(*args))
            best[at_] = min(best[at_], time.perf_counter() - start)
    return best


# The rows.


def unused_tags(size: Size) -> list[Row]:
    weights, x = weights_of(size, size.middle), input_of(size)
    rows = []
    for name, model in (("scanned", scanned), ("remat", remat_scanned)):
        texts = [jax.jit(lambda w, x, t=t, m=model: m(w, x, t)).lower(weights, x).as_text() for t in (tag, untagged)]
        equal = texts[0] == texts[1]
        rows.append(
            row(f"StableHLO of {size.middle} {name} layers, no run", *map(len, texts), "chars", "identical", equal)
        )
    return rows


def run_time_and_memory(size: Size) -> list[Row]:
    layers = size.middle
    args = weights_of(size, layers), input_of(size), jnp.ones(size.width)
    found, hand, all_ = (compiled(f, *args) for f in (ours(scanned, layers), by_hand(layers), save_all(layers)))
    plain = compiled(lambda w, x, v: scanned(w, x, untagged), *args)
    mine, theirs = best_times(size.repeats, [found, hand], *args)
    saved = 2 * size.tokens * size.width * 4
    extra, extra_all = (one.temporary + one.results - plain.temporary - plain.results for one in (found, all_))
    what = f"{layers} layers, 2 saves and 1 edit: "
    return [
        row(what + "run time vs scan by hand", mine * 1e3, theirs * 1e3, "ms", "<= 1.03", mine <= 1.03 * theirs),
        row(what + "extra memory vs saved values", extra / MIB, saved / MIB, "MiB", "<= 1.25", extra <= 1.25 * saved),
        row(what + "extra memory vs all layers saved", extra / MIB, extra_all / MIB, "MiB", "<= 2/L x 1.25",
            extra <= 1.25 * 2 / layers * extra_all),
        _one_save(size, args),
    ]  # fmt: skip


def _one_save(size: Size, args: Any) -> Row:
    """One layer of many: the target is 5 % of saving them all."""
    everything = compiled(lambda w, x, v: capture(scanned, {"mlp_act": "all"})(w, x), *args)
    one = compiled(lambda w, x, v: capture(scanned, {"mlp_act": size.middle // 2})(w, x), *args)
    plain = compiled(lambda w, x, v: scanned(w, x, untagged), *args)
    extra, extra_all = (c.temporary + c.results - plain.temporary - plain.results for c in (one, everything))
    what = f"{size.middle} layers, 1 save: extra memory vs all layers saved"
    return row(what, extra / MIB, extra_all / MIB, "MiB", "<= 0.05", extra <= 0.05 * extra_all)


def compile_times(size: Size) -> list[Row]:
    def seconds(layers: int, function: Callable[..., Any]) -> float:
        args = weights_of(size, layers), input_of(size), jnp.ones(size.width)
        return min(compiled(function, *args).seconds for _ in range(size.compiles))

    def gradient(layers: int) -> Callable[..., Any]:
        function = ours(remat_scanned, layers)
        return jax.grad(lambda w, x, v: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(w, x, v))), argnums=2)

    rows = []
    for name, make in (("forward", lambda n: ours(scanned, n)), ("gradient of remat", gradient)):
        deep, shallow = (seconds(layers, make(layers)) for layers in (size.deep, size.shallow))
        what = f"compile, {name}: {size.deep} layers vs {size.shallow}"
        rows.append(row(what, deep, shallow, "s", "<= 1.3", deep <= 1.3 * shallow))
    stacked = seconds(size.middle, ours(scanned, size.middle))
    flat = compiled(
        ours_unrolled(size.middle), weights_of(size, size.middle), input_of(size), jnp.ones(size.width)
    ).seconds
    # Transformer blocks, which take longer to compile, have rows of their own.
    what = f"compile, forward: scanned vs unrolled, {size.middle} layers of two matrices"
    return [*rows, compile_row(what, stacked, flat, size.middle)]


def compile_row(what: str, stacked: float, flat: float, layers: int) -> Row:
    """Scanned beside unrolled: the target is for 48 layers; in fewer the scan's own share of the time is larger."""
    if layers < Size.middle:
        return row(what, stacked, flat, "s", f"faster (1/8 at {Size.middle})", stacked <= flat)
    return row(what, stacked, flat, "s", "<= 1/8", stacked <= flat / 8)


def sweep(size: Size) -> list[Row]:
    """All layers ablated one after the other: one trace for all."""
    weights, x = weights_of(size, size.middle), input_of(size)[:32]
    traces = 0

    def one(layer: Any) -> Any:
        nonlocal traces
        traces += 1
        return patch(scanned, {at("mlp_out", layers=layer): jnp.zeros_like})(weights, x)

    by_layer = jax.jit(lambda layers: jax.lax.map(one, layers))(jnp.arange(size.middle))
    zeroed = patch(scanned, {at("mlp_out", layers=3): jnp.zeros_like})
    exact = bool(jnp.allclose(by_layer[3], jax.jit(zeroed)(weights, x), atol=1e-5))
    return [row(f"sweep over {size.middle} layers: traces", traces, 1, "traces", "1, and equal", traces == 1 and exact)]


def lines_of(function: Callable[..., Any]) -> int:
    """Lines of code of a function, without its signature's."""
    source = inspect.getsource(function).splitlines()
    return sum(bool(line.strip()) and not line.strip().startswith(("#", '"""')) for line in source) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer layers, narrower")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--skip-peers", action="store_true", help="only the targets, not the other tools")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    from jax_transformer import transformer_compile_times

    rows = []
    for part in (unused_tags, run_time_and_memory, compile_times, transformer_compile_times, sweep):
        rows += part(size)
    if not options.skip_peers:
        from jax_peers import peers

        rows += peers(size)
    show(rows, options.json)


if __name__ == "__main__":
    main()
