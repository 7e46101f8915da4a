"""Runs under `checkify`, and models that use it: checks see what was written."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
from jax.experimental import checkify
from leaks import leakless
from tiny_models import INPUT, LAYERS, STACKED, WEIGHTS

from gossamer.jax import at, capture, patch, run, split, tag


def layer(x, w):
    h = tag("h", jnp.tanh(x @ w))
    checkify.check(jnp.all(h < 2), "h reached {top}", top=jnp.max(h))  # a tanh never does
    return x + h


def in_scan(wrap):
    return lambda weights, x: jax.lax.scan(lambda x, w: (wrap(layer)(x, w), None), x, weights)[0]


MODELS = {"scan": in_scan(lambda f: f), "scan of remat": in_scan(jax.checkpoint), "scan of jit": in_scan(jax.jit)}


def message(function, *args, errors=checkify.user_checks):
    error, _ = jax.jit(checkify.checkify(function, errors=errors))(*args)
    return error.get()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_checks_of_the_model_see_what_was_written(model):
    put = lambda v: patch(model, {at("h", layers=2): jnp.full((2, 3), v)})  # noqa: E731
    assert message(model, WEIGHTS, INPUT) is None
    assert message(capture(model, {"h": [0, 1]}), WEIGHTS, INPUT) is None
    assert message(put(1.5), WEIGHTS, INPUT) is None
    assert message(put(2.5), WEIGHTS, INPUT).startswith("h reached 2.5")
    leakless(checkify.checkify(capture(put(1.5), {"h": [0, 1]})), WEIGHTS, INPUT)


def test_checks_in_peeled_layers_and_after_a_split():
    model = MODELS["scan"]

    def peeled(v):
        with run(model, WEIGHTS, INPUT, peel=[1]) as r:
            r.until("h").set(jnp.full((2, 3), v))
        return r.result

    def after_split(v):
        return split(model, at("h", layers=1))(WEIGHTS, INPUT)[1](jnp.full((2, 3), v))

    for function in (peeled, after_split):
        assert message(function, 1.5) is None
        assert message(function, 2.5).startswith("h reached 2.5")


def test_checks_of_the_experimenter_in_the_body_of_a_scan():
    def function(limit):
        with run(STACKED["scan"], WEIGHTS, INPUT) as r:
            checkify.check(jnp.all(r.until("h").value < limit), "above {limit}", limit=limit)
        return r.result

    assert message(function, 2.0) is None
    assert message(function, -2.0).startswith("above -2.0")


def test_float_checks_find_a_traced_layer_that_does_not_exist():
    def function(number):
        return patch(STACKED["scan"], {at("h", layers=number): lambda h: h * 0.5})(WEIGHTS, INPUT)

    assert message(function, LAYERS - 1, errors=checkify.float_checks) is None
    assert message(function, LAYERS, errors=checkify.float_checks).startswith("nan generated")


def test_index_checks_find_nothing_in_what_a_run_adds():
    nested = capture(STACKED["nested scan"], {"h": [3, 1]})
    assert message(nested, WEIGHTS, INPUT, errors=checkify.index_checks | checkify.float_checks) is None


def test_a_model_that_runs_checkify_itself():
    def model(weights, x):
        error, out = checkify.checkify(MODELS["scan"])(weights, x)
        return error, out

    def function(v):
        with run(model, WEIGHTS, INPUT) as r:
            r.until("h").edit(lambda h: h + v, layers=2)
        return r.result[0]

    assert jax.jit(function)(0.0).get() is None
    assert jax.jit(function)(9.0).get().startswith("h reached")
