"""Stacked layers: conditional saves and edits, traced layers, peeling, nesting, remat; and what they cost."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, LAYERS, STACKED, WEIGHTS, by_hand

from gossamer.jax import at, capture, patch, run, tag

SCAN, REMAT, NESTED = STACKED["scan"], STACKED["scan of remat"], STACKED["nested scan"]
hidden = jnp.stack(by_hand(WEIGHTS, INPUT)[1])


def halved_at(*layers):
    return by_hand(WEIGHTS, INPUT, lambda layer, h: h * 0.5 if layer in layers else h)[0]


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def captured(model, layers):
    return jax.jit(lambda: capture(model, {"h": layers})(WEIGHTS, INPUT)[1]["h"])()


@pytest.mark.parametrize("model", [REMAT, NESTED])
def test_saves_of_one_several_and_all_layers(model):
    @jax.jit
    def function():
        with run(model, WEIGHTS, INPUT) as r:
            site = r.until("h")
            handles = [site.save(layers=layers) for layers in (2, -1, [3, 0], "all")]
        return [handle.value for handle in handles]

    for found, wanted in zip(function(), (hidden[2], hidden[3], hidden[jnp.array([3, 0])], hidden), strict=True):
        close(found, wanted)


@pytest.mark.parametrize("model", [SCAN, NESTED])
def test_a_traced_layer_reads_and_writes_that_layer(model):
    @jax.jit
    @jax.vmap
    def sweep(layer):
        with run(model, WEIGHTS, INPUT) as r:
            site = r.until("h")
            kept = site.save(layers=layer)
            site.edit(lambda h: h * 0.5, layers=layer)
        return r.result, kept.value

    results, kept = sweep(jnp.arange(LAYERS))
    close(kept, hidden)
    for layer in range(LAYERS):
        close(results[layer], halved_at(layer))


def test_several_traced_layers_have_rows_in_their_order():
    found = jax.jit(lambda layers: capture(SCAN, {"h": layers})(WEIGHTS, INPUT)[1]["h"])(jnp.array([3, 1]))
    close(found, hidden[jnp.array([3, 1])])


@pytest.mark.parametrize("model", [SCAN, NESTED, STACKED["jit of scan"]])
def test_a_traced_number_that_is_no_layer_gives_nan(model):
    @jax.jit
    def function(layer):
        changed = patch(model, {at("h", layers=layer): lambda h: h * 0.5})
        return changed(WEIGHTS, INPUT), capture(model, {"h": layer})(WEIGHTS, INPUT)[1]["h"]

    for out, kept in (function(LAYERS), function(-1)):
        assert jnp.isnan(out).all()
        assert jnp.isnan(kept).all()


def test_a_value_set_at_chosen_layers():
    @jax.jit
    def function():
        with run(SCAN, WEIGHTS, INPUT) as r:
            site = r.until("h")
            site.set(jnp.zeros(site.shape), layers=[0, 3])
        return r.result

    close(function(), by_hand(WEIGHTS, INPUT, lambda layer, h: h * 0 if layer in (0, 3) else h)[0])


def test_a_later_save_sees_an_earlier_edit_and_two_sites_of_one_layer_meet():
    def model(weights, x):
        def body(x, w):
            first = tag("first", x @ w)
            return x + tag("second", jnp.tanh(first)), None

        return jax.lax.scan(body, x, weights)[0]

    @jax.jit
    def function():
        with run(model, WEIGHTS, INPUT) as r:
            first = r.until("first").value
            second = r.until("second")
            second.edit(lambda h: h + first, layers=1)
            kept = second.save(layers=[1])
        return r.result, kept.value

    x = INPUT
    for layer, w in enumerate(WEIGHTS):
        h = jnp.tanh(x @ w) + (x @ w if layer == 1 else 0)
        if layer == 1:
            wanted = h
        x = x + h
    result, kept = function()
    close(result, x)
    close(kept[0], wanted)


@pytest.mark.parametrize("model", [SCAN, REMAT, NESTED])
def test_peeled_layers_run_free_form_python(model):
    peel = [2] if model is not NESTED else [1]

    @jax.jit
    def function():
        kept = None
        with run(model, WEIGHTS, INPUT, peel=peel) as r:
            for site in r:
                if model is NESTED:
                    kept = site.save(layers=2)
                    site.edit(lambda h: h * 0.5, layers=2)
                else:
                    assert site.layer == 2
                    kept = site.save()
                    site.edit(lambda h: h * 0.5)
        return r.result, kept.value

    result, kept = function()
    close(result, halved_at(2))
    close(kept, hidden[2])


@pytest.mark.parametrize("model", [SCAN, REMAT, jax.jit(SCAN)])
def test_a_peeled_layer_has_the_path_of_its_scan(model):
    def named(weights, x):
        with jax.named_scope("stack"), jax.named_scope("layers"):
            return model(weights, x)

    def function():
        with run(named, WEIGHTS, INPUT, peel=[2]) as r:
            assert r.until("h", path="stack/layers").path == r.table[0].path == "stack/layers"
        return r.result

    jax.eval_shape(function)


def test_peeling_equals_sowing_equals_unrolling_with_stacked_outputs_in_reverse():
    def model(weights, x):
        def body(x, w):
            h = tag("h", jnp.tanh(x @ w))
            return x + h, jnp.sum(h)

        return jax.lax.scan(body, x, weights, reverse=True, unroll=2)

    def sown():
        return patch(model, {at("h", layers=[1, 3]): lambda h: h * 0.5})(WEIGHTS, INPUT)

    def peeled():
        with run(model, WEIGHTS, INPUT, peel=[1, 3]) as r:
            seen = []
            for site in r:
                seen.append(site.layer)
                site.edit(lambda h: h * 0.5)
        assert seen == [3, 1]
        return r.result

    flipped = WEIGHTS[::-1]
    wanted = by_hand(flipped, INPUT, lambda layer, h: h * 0.5 if LAYERS - 1 - layer in (1, 3) else h)[0]
    for function in (sown, peeled):
        x, sums = jax.jit(function)()
        close(x, wanted)
        assert sums.shape == (LAYERS,)
    jax.tree.map(close, jax.jit(sown)(), jax.jit(peeled)())


def test_trees_and_integers_are_saved_by_layer():
    def model(weights, x):
        def body(carry, w):
            x, n = carry
            both = tag("both", {"x": x @ w, "n": n + 1})
            return (both["x"], both["n"]), None

        return jax.lax.scan(body, (x, jnp.int32(0)), weights)[0]

    found = jax.jit(lambda: capture(model, {"both": [2, 0]})(WEIGHTS, INPUT)[1]["both"])()
    assert found["n"].tolist() == [3, 1]
    close(found["x"][1], INPUT @ WEIGHTS[0])


def test_the_index_names_the_step_of_every_scan():
    seen = []

    def note(site):
        seen.append((len(site.index), site.length, site.scope))

    with run(jax.jit(NESTED), WEIGHTS, INPUT) as r:
        r.on("h", note)
    assert seen == [(2, LAYERS, "scan")]


# What it costs, without clocks.


def wide(layers):
    key = jax.random.key(0)
    return jax.random.normal(key, (layers, 64, 64)) / 8, jnp.ones((128, 64))


def temporary(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_chosen_layers_take_memory_for_themselves_only():
    value = 128 * 64 * 4
    few, many = (temporary(capture(SCAN, {"h": [1, 2]}), *wide(layers)) for layers in (4, 32))
    everything = temporary(lambda *args: capture(SCAN, {"h": "all"})(*args)[1]["h"].sum(), *wide(32))
    assert many - few <= value / 8
    assert everything >= 30 * value


def test_gradients_of_remat_keep_no_further_layers():
    def steered(layers):
        def loss(v, weights, x):
            changed = patch(REMAT, {at("h", layers=1): lambda h: h + v})
            out, found = capture(changed, {"h": [2]})(weights, x)
            return jnp.sum(out) + jnp.sum(found["h"])

        return temporary(jax.grad(loss), jnp.ones(64), *wide(layers))

    def plain(layers):
        return temporary(jax.grad(lambda weights, x: jnp.sum(REMAT(weights, x)), argnums=1), *wide(layers))

    value = 128 * 64 * 4
    assert steered(32) - steered(4) <= plain(32) - plain(4) + 4 * value


def test_the_body_is_traced_once_whatever_the_depth():
    for layers in (4, 32):
        visits = []

        def function(weights, x, visits=visits):
            with run(REMAT, weights, x) as r:
                for site in r:
                    visits.append(site.name)
                    site.edit(lambda h: h * 0.5, layers=[1])
            return r.result

        jaxpr = jax.make_jaxpr(function)(*wide(layers))
        assert visits == ["h"]
        assert len(str(jaxpr).splitlines()) < 200


def test_an_edit_runs_at_its_layer_only():
    """A `cond`, not a `where`: the edit's work is in a branch."""
    changed = patch(SCAN, {at("h", layers=1): jnp.sin})
    text = jax.jit(changed).lower(WEIGHTS, INPUT).as_text()
    assert "stablehlo.case" in text or "stablehlo.if" in text
