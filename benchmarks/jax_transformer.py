"""Compile time of the layers that users stack: transformer blocks, in a scan and unrolled.

A block of two matrices, as in the other rows, is compiled so fast that what is around the layers counts as much as they
do. Here a layer is what it is in a language model: two layer norms, causal attention with heads, an MLP of four times
the width, and tags at the attention weights and both outputs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax_instrument import Size, compile_row, compiled, ours, ours_unrolled
from rows import Row

from gossamer.jax import tag

HEADS, BATCH = 4, 4


def weights_of(size: Size, layers: int) -> dict[str, Any]:
    """Weights with a leading axis of layers."""
    width = size.width
    shapes = {
        "qkv": (width, 3, HEADS, width // HEADS),
        "o": (HEADS, width // HEADS, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    keys = jax.random.split(jax.random.key(0), len(shapes))
    matrices = {
        name: jax.random.normal(key, (layers, *shape)) / width**0.5
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    norms = {f"norm_{at}": {"scale": jnp.ones((layers, width)), "bias": jnp.zeros((layers, width))} for at in (1, 2)}
    biases = {"up_bias": jnp.zeros((layers, 4 * width)), "down_bias": jnp.zeros((layers, width))}
    return matrices | norms | biases


def input_of(size: Size) -> Any:
    """A residual stream (batch, pos, width)."""
    return jax.random.normal(jax.random.key(1), (BATCH, size.tokens // BATCH, size.width))


def block(x: Any, w: dict[str, Any]) -> Any:
    """One layer, normalised before attention and MLP."""
    x = x + tag("attn_out", _attention(_norm(x, w["norm_1"]), w))
    h = tag("mlp_act", jax.nn.gelu(_norm(x, w["norm_2"]) @ w["up"] + w["up_bias"]))
    return x + tag("mlp_out", h @ w["down"] + w["down_bias"])


def _norm(x: Any, w: dict[str, Any]) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w["scale"] + w["bias"]


def _attention(x: Any, w: dict[str, Any]) -> Any:
    q, k, v = jnp.moveaxis(jnp.einsum("bpd,dnhe->bpnhe", x, w["qkv"]), 2, 0)
    scores = jnp.einsum("bqhe,bkhe->bhqk", q, k) / q.shape[-1] ** 0.5
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    probs = tag("probs", jax.nn.softmax(jnp.where(causal, scores, -jnp.inf)))
    return jnp.einsum("bhqk,bkhe,hed->bqd", probs, v, w["o"])


def scanned_in(wrap: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def model(weights: Any, x: Any) -> Any:
        return jax.lax.scan(wrap(lambda x, w: (block(x, w), None)), x, weights)[0]

    return model


def unrolled_in(wrap: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def model(weights: Any, x: Any) -> Any:
        for layer in range(len(weights["up"])):
            x = wrap(block)(x, jax.tree.map(lambda leaf, layer=layer: leaf[layer], weights))
        return x

    return model


def gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of all results with respect to the steering vector, the third argument."""
    return jax.grad(lambda w, x, v: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(w, x, v))), argnums=2)


def transformer_compile_times(size: Size) -> list[Row]:
    """Two saves and an edit, scanned beside unrolled; the better of two compilations."""
    layers = size.middle
    args = weights_of(size, layers), input_of(size), jnp.ones(size.width)
    kinds = {"forward": (lambda f: f, lambda f: f), "gradient of remat": (jax.checkpoint, gradient)}
    rows = []
    for name, (wrap, whole) in kinds.items():
        stacked = whole(ours(scanned_in(wrap), layers))
        flat = whole(ours_unrolled(layers, unrolled_in(wrap)))
        mine, theirs = (min(compiled(one, *args).seconds for _ in range(2)) for one in (stacked, flat))
        what = f"compile, {name}: scanned vs unrolled, {layers} transformer blocks"
        rows.append(compile_row(what, mine, theirs, layers))
    return rows
