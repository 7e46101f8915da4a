"""The cross product: every place of a tag, in every transformation, read and written, against the model by hand."""

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


def instrumented(model, read, write):
    """A function of the edit's parameter: the result, and what was read."""

    def function(value, weights=WEIGHTS):
        changed = patch(model, {at("h", layers=WRITTEN): lambda h: scaled(value, h)}) if write else model
        if not read:
            return changed(weights, INPUT), None
        out, found = capture(changed, {"h": READ})(weights, INPUT)
        return out, found["h"]

    return function


def reference(read, write):
    def function(value, weights=WEIGHTS):
        edit = (lambda layer, h: scaled(value, h) if layer == WRITTEN else h) if write else (lambda _, h: h)
        out, seen = by_hand(weights, INPUT, edit)
        return out, (jnp.stack([edit(n, seen[n]) for n in READ]) if read else None)

    return function


def summed(function):
    return lambda value, *rest: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(function(value, *rest)))


TRANSFORMS = {
    "eager": lambda f: f(0.7),
    "jit": lambda f: jax.jit(f)(0.7),
    "grad of weights": lambda f: jax.grad(summed(f), argnums=1)(0.7, WEIGHTS),
    "vmap": lambda f: jax.vmap(f)(jnp.array([0.7, -1.0])),
    "jvp": lambda f: jax.jvp(f, (0.7,), (1.0,)),
    "jit of vmap of grad": lambda f: jax.jit(jax.vmap(jax.grad(summed(f))))(jnp.array([0.7, -1.0])),
    "grad of remat": lambda f: jax.grad(jax.checkpoint(summed(f)))(0.7),
}


def same(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_reading_and_writing_equal_the_model_by_hand(place, transform):
    apply = TRANSFORMS[transform]
    same(apply(instrumented(PLACES[place], True, True)), apply(reference(True, True)))


@pytest.mark.parametrize(("read", "write"), [(True, False), (False, True)])
@pytest.mark.parametrize("place", PLACES)
def test_reading_or_writing_alone(place, read, write):
    same(jax.jit(instrumented(PLACES[place], read, write))(0.7), reference(read, write)(0.7))


@pytest.mark.parametrize("place", PLACES)
def test_hessian(place):
    apply = jax.hessian(summed(instrumented(PLACES[place], True, True)))
    same(apply(0.7), jax.hessian(summed(reference(True, True)))(0.7))
