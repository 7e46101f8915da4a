"""Caches of traces: no run leaves anything behind in them, nor is fooled by what it finds there."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, PLACES, WEIGHTS, block, by_hand

from gossamer.jax import run, tag


def model_of(wrap):
    wrapped = wrap(block)

    def model(weights, x):
        for layer in range(len(weights)):
            x = wrapped(x, weights[layer])
        return x

    return model


def expected(factor):
    return by_hand(WEIGHTS, INPUT, lambda layer, h: h * factor if layer == 1 else h)[0]


@pytest.mark.parametrize("mode", ["staged", "live"])
@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.vmap(f, (0, None))])
def test_runs_with_other_edits_and_plain_calls_between(mode, wrap):
    model = model_of(wrap)

    def edited(factor):
        visits = 0
        with run(model, WEIGHTS, INPUT, mode=mode) as r:
            for site in r:
                visits += 1
                if site.layer == 1:
                    site.edit(lambda h: h * factor)
        assert visits == len(WEIGHTS)
        return r.result

    np.testing.assert_allclose(model(WEIGHTS, INPUT), expected(1.0), rtol=1e-6)
    for factor in (0.5, 3.0, 0.5):
        np.testing.assert_allclose(edited(factor), expected(factor), rtol=1e-6)
        np.testing.assert_allclose(model(WEIGHTS, INPUT), expected(1.0), rtol=1e-6)


@pytest.mark.parametrize("place", ["top", "scan", "scan of remat"])
def test_an_instrumented_function_is_compiled_once(place):
    traces = 0

    @jax.jit
    def function(weights, x, factor):
        nonlocal traces
        traces += 1
        with run(PLACES[place], weights, x) as r:
            for site in r:
                site.edit(lambda h: h * factor, layers=1)
        return r.result

    for factor in (0.5, 3.0):
        np.testing.assert_allclose(function(WEIGHTS, INPUT, factor), expected(factor), rtol=1e-6)
    assert traces == 1


def test_a_sweep_over_layers_is_one_trace():
    traces = 0

    @jax.jit
    def sweep(layers):
        def one(layer):
            nonlocal traces
            traces += 1
            with run(PLACES["scan"], WEIGHTS, INPUT) as r:
                r.on("h", lambda site: site.edit(lambda h: h * 0.5, layers=layer))
            return r.result

        return jax.vmap(one)(layers)

    layers = jnp.arange(len(WEIGHTS))
    found = sweep(layers)
    sweep(layers[::-1])
    for layer in range(len(WEIGHTS)):
        wanted = by_hand(WEIGHTS, INPUT, lambda n, h, layer=layer: h * 0.5 if n == layer else h)[0]
        np.testing.assert_allclose(found[layer], wanted, rtol=1e-6)
    assert traces == 1


def test_an_eager_tag_and_the_same_function_traced():
    np.testing.assert_array_equal(tag("x", INPUT), INPUT)
    assert jax.jit(lambda x: tag("x", x))(INPUT).shape == INPUT.shape
