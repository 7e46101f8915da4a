"""Tags whose result the model does not use: they can be read, and a write is refused, for it would change nothing."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, LAYERS, WEIGHTS

from gossamer.jax import at, capture, patch, run, split, tag
from gossamer.jax.errors import UnusedTag


def noted(x, w):
    """A layer whose tag stands by itself, as a statement."""
    h = jnp.tanh(x @ w)
    tag("h", h)
    return x + h


def unrolled(weights, x):
    for w in weights:
        x = noted(x, w)
    return x


def scanned(wrap=lambda f: f):
    return lambda weights, x: jax.lax.scan(wrap(lambda x, w: (noted(x, w), None)), x, weights)[0]


def through_dead_code(weights, x):
    """The tag's result is used, and what comes of it is not."""
    unused = jax.jit(lambda x: jnp.exp(tag("h", x)) * 2)(x)
    del unused
    return x @ weights[0]


def in_a_branch(weights, x):
    return jax.lax.cond(jnp.sum(x) > 0, lambda x: noted(x, weights[0]), lambda x: x, x)


def in_a_dead_stack(weights, x):
    """The scan gives its carry and the tagged values, of which the model uses the carry."""
    return jax.lax.scan(lambda x, w: (x + x @ w, tag("h", x @ w)), x, weights)[0]


MODELS = {
    "statement": unrolled,
    "jit": jax.jit(unrolled),
    "dead code": through_dead_code,
    "scan": scanned(),
    "scan of remat": scanned(jax.checkpoint),
    "stacked results": in_a_dead_stack,
    "branch": in_a_branch,
}


@pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_write_that_would_change_nothing_is_refused(model, around):
    for change in (lambda h: h * 0, jnp.zeros_like(INPUT)):
        with pytest.raises(UnusedTag, match=r"tag is no statement: use its value, x = tag\('h', x\)"):
            around(patch(model, {at("h", layers="all"): change}))(WEIGHTS, INPUT)


@pytest.mark.parametrize("model", [unrolled, scanned(), scanned(jax.checkpoint)])
def test_such_a_tag_can_be_read(model):
    result, found = jax.jit(capture(model, {"h": "all"}))(WEIGHTS, INPUT)
    np.testing.assert_allclose(result, unrolled(WEIGHTS, INPUT), rtol=1e-6)
    np.testing.assert_allclose(found["h"][0], jnp.tanh(INPUT @ WEIGHTS[0]), rtol=1e-6)
    assert found["h"].shape == (LAYERS, *INPUT.shape)


def test_a_peeled_layer_and_a_split_are_refused_too():
    with pytest.raises(UnusedTag, match="edit at"), run(scanned(), WEIGHTS, INPUT, peel=1) as r:
        r.until("h").edit(lambda h: h * 0)
    with pytest.raises(UnusedTag, match="set at"):
        split(scanned(), at("h", layers=1))(WEIGHTS, INPUT)


def test_only_the_layers_that_are_written_count():
    """One jaxpr, called twice: the first call's tagged result is used, the second one's is not."""
    layer = jax.jit(lambda x: (x + 1, tag("h", x * 2)))

    def model(x):
        x, h = layer(x)
        x = x + h
        return layer(x)[0]

    changed = patch(model, {at("h", layers=0): lambda h: h * 0})(INPUT)
    np.testing.assert_allclose(changed, INPUT + 2, rtol=1e-6)
    with pytest.raises(UnusedTag, match="edit at"):
        patch(model, {at("h", layers=1): lambda h: h * 0})(INPUT)


def test_what_is_read_later_is_used():
    """By another tag, by a part of a tree, by the next step of a scan, and by what a model does besides returning."""

    def model(x):
        first = tag("first", {"a": x, "b": x + 1})
        tag("second", first["b"] * 2)
        return x

    both = {"first": lambda h: {"a": h["a"], "b": h["b"] * 0}}
    _, found = capture(patch(model, both), ["second"])(INPUT)
    np.testing.assert_array_equal(found["second"], jnp.zeros_like(INPUT))

    def carried(x):
        def step(carry, _):
            x, h = carry
            return (x + h, tag("h", h * 2)), None

        return jax.lax.scan(step, (x, x), None, length=3)[0][0]

    zeroed = jax.jit(patch(carried, {at("h", layers=0): lambda h: h * 0}))(INPUT)
    np.testing.assert_allclose(zeroed, INPUT * 2, rtol=1e-6)

    heard = []

    def telling(x):
        jax.debug.callback(heard.append, tag("h", x))
        return x

    jax.jit(patch(telling, {"h": lambda h: h * 0}))(INPUT)
    jax.effects_barrier()
    np.testing.assert_array_equal(heard[0], jnp.zeros_like(INPUT))
