"""The cross product: every place of a tag, in every transformation, read and written, against the model by hand."""

from functools import cache

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, PLACES, WEIGHTS, by_hand

from gossamer.jax import at, capture, patch

READ, WRITTEN = [3, 1], 2


def scaled(value, h):
    return h * value + 1.0


def instrumented(model, read=True, write=True):
    """A function of the edit's parameter: the result, and what was read."""

    def function(value, weights):
        changed = patch(model, {at("h", layers=WRITTEN): lambda h: scaled(value, h)}) if write else model
        if not read:
            return changed(weights, INPUT), None
        out, found = capture(changed, {"h": READ})(weights, INPUT)
        return out, found["h"]

    return function


def reference(read=True, write=True):
    def function(value, weights):
        edit = (lambda layer, h: scaled(value, h) if layer == WRITTEN else h) if write else (lambda _, h: h)
        out, seen = by_hand(weights, INPUT, edit)
        return out, (jnp.stack([edit(n, seen[n]) for n in READ]) if read else None)

    return function


def summed(function):
    return lambda value, weights: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(function(value, weights)))


TWO = jnp.array([0.7, -1.0])
GRADIENTS = {
    "grad of weights": lambda f: jax.grad(summed(f), argnums=1)(0.7, WEIGHTS),
    "vmap of grad": lambda f: jax.vmap(jax.grad(summed(f)), (0, None))(TWO, WEIGHTS),
}
OTHERS = {
    "vmap": lambda f: jax.vmap(f, (0, None))(TWO, WEIGHTS),
    "jvp": lambda f: jax.jvp(f, (0.7, WEIGHTS), (1.0, WEIGHTS)),
    "grad of remat": lambda f: jax.grad(jax.checkpoint(summed(f)))(0.7, WEIGHTS),
    "hessian": lambda f: jax.hessian(summed(f))(0.7, WEIGHTS),
}
TRANSFORMS = {"plain": lambda f: f(0.7, WEIGHTS), **GRADIENTS, **OTHERS}


def computed(transform, function):
    return jax.jit(lambda: TRANSFORMS[transform](function))()


@cache
def expected(transform, read=True, write=True):
    return jax.tree.map(np.asarray, computed(transform, reference(read, write)))


def same(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("read", "write"), [(True, True), (True, False), (False, True)])
def test_values_equal_the_model_by_hand(place, read, write):
    same(computed("plain", instrumented(PLACES[place], read, write)), expected("plain", read, write))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transform", GRADIENTS)
def test_gradients_equal_those_of_the_model_by_hand(place, transform):
    same(computed(transform, instrumented(PLACES[place])), expected(transform))


@pytest.mark.parametrize("place", ["jit", "inner vmap", "scan of remat", "nested scan"])
@pytest.mark.parametrize("transform", OTHERS)
def test_other_transformations(place, transform):
    same(computed(transform, instrumented(PLACES[place])), expected(transform))


@pytest.mark.parametrize("place", ["top", "scan"])
@pytest.mark.filterwarnings("ignore::gossamer.jax.errors.EagerRunWarning")
def test_without_jit(place):
    same(instrumented(PLACES[place])(0.7, WEIGHTS), expected("plain"))


@pytest.mark.parametrize("place", ["scan", "scan of remat"])
def test_with_jit_disabled_a_scan_is_unrolled(place):
    with jax.disable_jit():
        same(instrumented(PLACES[place])(0.7, WEIGHTS), expected("plain"))
