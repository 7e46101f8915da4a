"""No value of a trace outlives it: every kind of use, at every place of a tag, under JAX's leak checker."""

import pytest

pytest.importorskip("jax.numpy")

from itertools import product

import jax
import jax.numpy as jnp
from leaks import leakless
from tiny_models import INPUT, LAYERS, PLACES, STACKED, UNROLLED, WEIGHTS

from gossamer.jax import at, capture, patch, run, split
from gossamer.jax.errors import RunNotFinished, ScopedRead

pytestmark = pytest.mark.usefixtures("smaller_heap")
halve = {at("h", layers=2): lambda h: h * 0.5}


def looped(model, weights):
    kept = []
    with run(model, weights, INPUT) as r:
        for site in r:
            kept.append(site.save(layers=site.length and [3, 1]))
            site.edit(lambda h: h + jnp.sum(weights), layers=site.length and 2)
            site.set(site.value * 2, layers=site.length and "all")
            kept.append(site.save(layers=site.length and "all"))
    return r.result, [one.value for one in kept]


def left_early(model, weights):
    with run(model, weights, INPUT) as r:
        next(r)
        with pytest.raises(RunNotFinished):
            r.result  # noqa: B018
    return r.result


def called_back(model, weights):
    with run(model, weights, INPUT) as r:
        r.on("h", lambda site: site.edit(lambda h: h * 0.5, layers=2))
    return r.result


def captured_and_patched(model, weights):
    return capture(patch(model, halve), {"h": [3, 1]})(weights, INPUT)


def differentiated(model, weights):
    def loss(weights, scale):
        out, found = capture(patch(model, {at("h", layers=2): lambda h: h * scale}), {"h": "all"})(weights, INPUT)
        return jnp.sum(out) + jnp.sum(found["h"])

    return jax.grad(loss, argnums=(0, 1))(weights, 0.5)


def swept(model, weights):
    by_layer = lambda n: patch(model, {at("h", layers=n): lambda h: h * 0.5})(weights, INPUT)  # noqa: E731
    return jax.vmap(by_layer)(jnp.arange(LAYERS))


def cut(model, weights):
    value, rest = split(model, at("h", layers=1))(weights, INPUT)
    return rest(value), jax.grad(lambda h: jnp.sum(rest(h)))(value)


def side_by_side(model, weights):
    with run(model, weights, INPUT) as a, run(model, weights, 2 * INPUT) as b:
        for _ in zip(a, b, strict=True):
            with a.outside():
                total = jnp.sum(weights)
    return a.result, b.result, total


def one_in_another(model, weights):
    return capture(lambda w, x: looped(model, w)[0], {"h": "all"})(weights, INPUT)


def interrupted(model, weights):
    with pytest.raises(ZeroDivisionError), run(model, weights, INPUT) as r:
        1 / len([next(r)][1:])
    return weights


USES = (
    looped,
    left_early,
    called_back,
    captured_and_patched,
    differentiated,
    swept,
    cut,
    side_by_side,
    one_in_another,
    interrupted,
)


# JAX keeps a frame of each trace in the order of one stack, and two runs have two: it holds on to a frame of a body
# with a body inside, and so to its values, for as long as the other run stands in one.
NOT_CHECKED = [(side_by_side, place) for place in ("scan of remat", "remat of scan", "nested scan")]


@pytest.mark.parametrize(("use", "place"), [one for one in product(USES, PLACES) if one not in NOT_CHECKED])
def test_no_value_outlives_its_trace(use, place):
    leakless(lambda weights: use(PLACES[place], weights), WEIGHTS)


@pytest.mark.parametrize("place", STACKED)
def test_nor_where_layers_leave_their_scan(place):
    def peeled(weights):
        with run(STACKED[place], weights, INPUT, peel=1) as r:
            site = next(r)
            kept = site.save(layers=site.length and "all")
            site.edit(lambda h: h * 0.5, layers=site.length and "all")
        return r.result, kept.value

    leakless(peeled, WEIGHTS)


@pytest.mark.parametrize("place", UNROLLED)
def test_nor_in_live_runs(place):
    def live(weights):
        with run(UNROLLED[place], weights, INPUT, mode="live") as r:
            for site in r:
                if site.scope == "inner":
                    with pytest.raises(ScopedRead):
                        site.value  # noqa: B018
                site.edit(lambda h: h * 0.5)
        return r.result

    leakless(live, WEIGHTS)


@pytest.mark.parametrize("use", [looped, captured_and_patched, cut, interrupted])
@pytest.mark.parametrize("place", ["jit", "inner vmap", "scan of remat"])
def test_nor_where_there_is_no_trace_around_the_run(use, place):
    with jax.checking_leaks():
        use(PLACES[place], WEIGHTS)


def test_a_value_that_is_kept_is_found():
    kept = []

    def keeping(weights):
        with run(STACKED["scan"], weights, INPUT) as r:
            kept.append(next(r).value)
        return r.result

    with pytest.raises(Exception, match="Leaked"):
        leakless(keeping, WEIGHTS)
