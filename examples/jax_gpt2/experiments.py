"""Four experiments on a model whose tags are patched in; every function needs the patch of `sites.py` in force."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gossamer.jax import capture, run
from jax_gpt2.dictionary import Dictionary
from jax_gpt2.prompts import Prompts

Forward = Callable[[Any, jax.Array], jax.Array]  # parameters and tokens to logits (prompt, vocab) at the last position


class Effects(NamedTuple):
    """How much of the difference between counterfactual (0) and clean (1) one place brings back: (layer, pos)."""

    values: jax.Array
    traces: int


def streams(forward: Forward, params: Any, tokens: jax.Array) -> jax.Array:
    """The residual stream after every layer: (layer, prompt, pos, d)."""
    return jax.jit(capture(forward, {"resid_post": "all"}))(params, tokens)[1]["resid_post"]


def activation_patching(forward: Forward, params: Any, prompts: Prompts) -> Effects:
    """Put the clean stream of one layer and position into the counterfactual run, for all of them.

    The layer is a traced number and the positions are mapped over: one compilation for the whole map.
    """
    clean = streams(forward, params, prompts.clean)
    traces = 0

    def patched(params: Any, clean: jax.Array, layer: jax.Array, position: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        with run(forward, params, prompts.counterfactual) as r:
            r.until("resid_post").edit(lambda x: x.at[:, position].set(clean[layer][:, position]), layers=layer)
        return prompts.difference(r.result)

    row = jax.jit(jax.vmap(patched, in_axes=(None, None, None, 0)))
    positions = jnp.arange(prompts.clean.shape[1])
    rows = [row(params, clean, jnp.int32(layer), positions) for layer in range(len(clean))]
    return Effects(_normalised(jnp.stack(rows), forward, params, prompts), traces)


def attribution_patching(forward: Forward, params: Any, prompts: Prompts) -> Effects:
    """The same map to first order: the slope of the difference at every place, times the change of the stream there.

    Every layer's stream is given something to add, which is zero: one backward pass gives the slopes of all of them,
    and the layers stay in their scan. Source: Nanda, Attribution patching (2023).
    """
    clean, counterfactual = (streams(forward, params, tokens) for tokens in (prompts.clean, prompts.counterfactual))
    traces = 0

    def nudged(nudges: jax.Array, params: Any) -> jax.Array:
        nonlocal traces
        traces += 1
        with run(forward, params, prompts.counterfactual) as r:
            site = r.until("resid_post")
            site.edit(lambda x: x + nudges[site.layer], layers="all")
        return prompts.difference(r.result)

    slopes = jax.jit(jax.grad(nudged))(jnp.zeros_like(clean), params)
    change = ((clean - counterfactual) * slopes).sum((1, 3))
    base = prompts.difference(jax.jit(forward)(params, prompts.counterfactual))
    return Effects(_normalised(base + change, forward, params, prompts), traces)


def head_patterns(forward: Forward, params: Any, tokens: jax.Array) -> jax.Array:
    """Attention weights of every head, read inside flax: (layer, prompt, head, query, key)."""
    return jax.jit(capture(forward, {"probs": "all"}))(params, tokens)[1]["probs"]


def spliced(forward: Forward, params: Any, tokens: jax.Array, dictionaries: Mapping[int, Dictionary]) -> jax.Array:
    """Logits with the stream after some layers replaced by what their dictionaries make of it."""

    @jax.jit
    def logits(params: Any, dictionaries: Mapping[int, Dictionary]) -> jax.Array:
        with run(forward, params, tokens) as r:
            site = r.until("resid_post")
            for layer, dictionary in dictionaries.items():
                site.edit(dictionary.reconstruct, layers=[layer])
        return r.result

    return logits(params, dict(dictionaries))


def splices(layers: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """What to compare: no dictionary, each alone, all together."""
    alone = {f"layer {layer}": (layer,) for layer in layers}
    return {"model": (), **alone, "all": tuple(layers)} if len(layers) > 1 else {"model": (), **alone}


def _normalised(values: jax.Array, forward: Forward, params: Any, prompts: Prompts) -> jax.Array:
    low, high = (
        prompts.difference(jax.jit(forward)(params, tokens)) for tokens in (prompts.counterfactual, prompts.clean)
    )
    return (values - low) / (high - low)
