"""Runs: the loop, `until`, callbacks, the result, and what happens around them."""

import pytest

pytest.importorskip("jax.numpy")

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, STACKED, UNROLLED, WEIGHTS, by_hand

from gossamer.jax import run, tag
from gossamer.jax.errors import EagerRunWarning, ResumedInOtherTrace, RunNotFinished, ScopedLeak, ScopedValue

MODEL, SCANNED = UNROLLED["jit"], STACKED["scan of remat"]
halved = by_hand(WEIGHTS, INPUT, lambda layer, h: h * 0.5 if layer == 2 else h)[0]
untouched, hidden = by_hand(WEIGHTS, INPUT)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def two_tags(x):
    return tag("second", jnp.sin(tag("first", x * 2)) + 1)


def test_the_loop_visits_sites_in_order_reads_and_writes():
    visited = []
    with run(two_tags, INPUT) as r:
        for site in r:
            visited.append((site.name, site.layer, site.count, site.shape, str(site.dtype), site.scope))
            if site.name == "first":
                close(site.value, INPUT * 2)
                site.set(site.value + 1)
                close(site.value, INPUT * 2 + 1)
    facts = (0, 0, INPUT.shape, "float32", "top")
    assert visited == [("first", *facts), ("second", *facts)]
    close(r.result, jnp.sin(INPUT * 2 + 1) + 1)


def test_layers_of_an_unrolled_model_count_up_and_local_variables_carry_values():
    with run(MODEL, WEIGHTS, INPUT) as r:
        for site in r:
            if site.layer == 0:
                kept = site.value
            if site.layer == 2:
                site.set(kept)
    close(r.result, by_hand(WEIGHTS, INPUT, lambda layer, h: hidden[0] if layer == 2 else h)[0])


def test_leaving_the_loop_early_runs_the_model_to_its_end():
    with run(MODEL, WEIGHTS, INPUT) as r:
        for site in r:
            site.set(site.value * 0)
            break
        with pytest.raises(RunNotFinished, match="after the `with`"):
            r.result  # noqa: B018
    close(r.result, by_hand(WEIGHTS, INPUT, lambda layer, h: h * 0 if layer == 0 else h)[0])


def test_until_goes_forward_by_name_and_path():
    def model(x):
        with jax.named_scope("layer_0"):
            x = tag("h", x + 1)
        with jax.named_scope("layer_1"), jax.named_scope("mlp"):
            return tag("h", x * 3)

    with run(model, INPUT) as r:
        site = r.until("h", path="*/layer_1/*")
        assert (site.path, site.count) == ("layer_1/mlp", 1)
        site.edit(lambda h: -h)
    close(r.result, -(INPUT + 1) * 3)


@pytest.mark.parametrize("model", [MODEL, SCANNED])
def test_callbacks_do_what_the_loop_does(model):
    def body(site):
        if site.length is None and site.layer != 2:
            return
        site.edit(lambda h: h * 0.5, layers=2)

    @jax.jit
    def looped():
        with run(model, WEIGHTS, INPUT) as r:
            for site in r:
                body(site)
        return r.result

    @jax.jit
    def called():
        with run(model, WEIGHTS, INPUT) as r:
            r.on("h", body)
        return r.result

    assert jnp.array_equal(looped(), called())
    close(looped(), halved)


def test_a_run_without_interventions_returns_what_the_model_returns():
    with run(MODEL, WEIGHTS, INPUT) as r:
        pass
    close(r.result, untouched)


def test_arguments_that_are_no_arrays_and_results_of_any_tree():
    def model(x, *, double, scale):
        x = tag("x", {"in": x, "note": None})["in"]
        return {"out": (x * scale, [x + x if double else x])}

    with run(model, INPUT, double=True, scale=3) as r:
        site = r.until("x")
        site.set({"in": site.value["in"] + 1, "note": None})
    close(r.result["out"][0], (INPUT + 1) * 3)
    close(r.result["out"][1][0], (INPUT + 1) * 2)


def test_two_runs_side_by_side_in_scans():
    @jax.jit
    def both():
        with run(SCANNED, WEIGHTS, INPUT) as a, run(SCANNED, WEIGHTS, 2 * INPUT) as b:
            for one, other in zip(a, b, strict=True):
                other.edit(lambda h: h * 0.5, layers=2)
                one.edit(lambda h: h * 0.5, layers=2)
        return a.result, b.result

    one, other = both()
    close(one, halved)
    close(other, by_hand(WEIGHTS, 2 * INPUT, lambda layer, h: h * 0.5 if layer == 2 else h)[0])


def test_runs_nest_and_the_outer_one_sees_what_the_inner_one_left():
    def inner(weights, x):
        with run(MODEL, weights, x) as r:
            for site in r:
                if site.layer == 2:
                    site.set(site.value * 0.5)
        return r.result

    with run(inner, WEIGHTS, INPUT) as r:
        seen = [site.value for site in r]
    close(seen[2], by_hand(WEIGHTS, INPUT, lambda layer, h: h)[1][2] * 0.5)
    close(r.result, halved)


def test_outside_computes_at_the_level_of_the_run():
    def function():
        with run(SCANNED, WEIGHTS, INPUT) as r:
            site = r.until("h")
            with r.outside():
                total = jnp.sum(INPUT) * 2
            site.edit(lambda h: h + total, layers=0)
        return r.result, total

    result, total = jax.jit(function)()
    close(total, jnp.sum(INPUT) * 2)
    close(result, by_hand(WEIGHTS, INPUT, lambda layer, h: h + jnp.sum(INPUT) * 2 if layer == 0 else h)[0])


def two_scans(weights, x):
    return SCANNED(weights, SCANNED(weights, x))


def tagged_after(weights, x):
    return tag("out", SCANNED(weights, x))


@pytest.mark.parametrize(("model", "name", "layers"), [(two_scans, "h", 0), (tagged_after, "out", None)])
def test_a_value_of_a_body_used_outside_is_explained(model, name, layers):
    def function():
        with run(model, WEIGHTS, INPUT) as r:
            kept = r.until("h").value
            r.until(name).set(kept, layers=layers)
        return r.result

    with pytest.raises(ScopedLeak, match=r"save\(\).*outside\(\)"):
        jax.jit(function)()


def test_a_site_that_was_left_keeps_no_value():
    with run(two_tags, INPUT) as r:
        first = r.until("first")
        value = weakref.ref(first.value)
        r.until("second")
        gc.collect()
        assert value() is None
        with pytest.raises(ScopedValue, match=r"'first' was left.*save\(\)"):
            first.value  # noqa: B018
        with pytest.raises(ScopedValue):
            first.set(INPUT)


def test_the_rest_of_a_model_may_run_inside_grad():
    with run(two_tags, INPUT) as r:
        site = r.until("first")

        def rest(x):
            site.set(x)
            for _ in r:
                pass
            return jnp.sum(r.result)

        gradient = jax.grad(rest)(INPUT * 2)
    close(gradient, jnp.cos(INPUT * 2))


def test_a_body_is_not_resumed_inside_another_transformation():
    with run(SCANNED, WEIGHTS, INPUT) as r:
        r.until("h")

        def rest(x):
            next(r, None)
            return x

        with pytest.raises(ResumedInOtherTrace, match="scan or remat"):
            jax.grad(rest)(1.0)
    close(r.result, untouched)


@pytest.mark.parametrize("model", [MODEL, SCANNED])
def test_an_exception_ends_the_run_and_leaves_jax_as_it_was(model):
    with pytest.raises(ZeroDivisionError), run(model, WEIGHTS, INPUT) as r:
        1 / len([next(r)][1:])
    assert float(jax.jit(jnp.sum)(jnp.ones(3))) == 3


def test_errors_of_the_model_come_through():
    def broken(x):
        tag("x", x)
        raise KeyError("model")

    with pytest.raises(KeyError, match="model"), run(broken, INPUT):
        pass


def test_contexts_of_the_caller_hold_in_the_loop():
    with np.errstate(divide="raise"), run(two_tags, INPUT) as r:
        for _ in r:
            with pytest.raises(FloatingPointError):
                np.float32(1) / np.float32(0)


def test_stacked_layers_outside_of_jit_are_warned_about_once():
    import gossamer.jax.scans as scans

    scans._warned = False
    with pytest.warns(EagerRunWarning, match="jax.jit"), run(SCANNED, WEIGHTS, INPUT) as r:
        r.on("h", lambda site: None)
    assert scans._warned
