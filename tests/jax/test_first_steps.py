"""What people try first: it works, or the refusal says what to do instead."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from leaks import leakless
from tiny_models import INPUT, LAYERS, STACKED, UNROLLED, WEIGHTS, by_hand

from gossamer.jax import at, capture, patch, run, split, tag
from gossamer.jax.errors import InstrumentError, NeedsStaged

SCAN = STACKED["scan of remat"]
untouched, hidden = by_hand(WEIGHTS, INPUT)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [2, np.int64(2), 0])
def test_one_layer_to_peel(number):
    def function():
        with run(STACKED["scan"], WEIGHTS, INPUT, peel=number) as r:
            kept = [(site.layer, site.value) for site in r]
        return kept[0][1], len(kept), kept[0][0] == number

    value, count, named = jax.jit(function)()
    close(value, hidden[int(number)])
    assert (count, named) == (1, True)
    with pytest.raises(NeedsStaged, match="peel"):
        run(STACKED["scan"], WEIGHTS, INPUT, peel=number, mode="live")


def test_one_name_to_capture():
    model = lambda x: tag("out", tag("a", x) * 2)  # noqa: E731
    for wanted in ("a", at("a"), ["a"]):
        out, found = capture(model, wanted)(INPUT)
        close(out, 2 * INPUT)
        (value,) = found.values()
        close(value, INPUT)
    (value,) = jax.jit(lambda: capture(SCAN, at("h", layers=1))(WEIGHTS, INPUT)[1])().values()
    close(value, hidden[1])


def test_a_pattern_that_means_several_tags_is_refused():
    model = lambda x: tag("mlp_out", tag("attn_out", x) * 2)  # noqa: E731
    with pytest.raises(InstrumentError, match="matches several tags, attn_out, mlp_out: name each"):
        capture(model, {"*_out": "all"})(INPUT)
    close(capture(model, {"mlp*": None})(INPUT)[1]["mlp*"], 2 * INPUT)


def test_writing_by_assignment_says_how_to_write():
    for mode in ("staged", "live"):
        with run(UNROLLED["top"], WEIGHTS, INPUT, mode=mode) as r:
            site = r.until("h")
            with pytest.raises(InstrumentError, match=r"site\.set"):
                site.value = site.value * 0
        close(r.result, untouched)


def test_layers_of_different_shapes_are_captured_one_by_one():
    model = lambda x: tag("h", tag("h", x)[:, :2]).sum()  # noqa: E731
    with pytest.raises(InstrumentError, match=r"different shapes, \(2, 3\), \(2, 2\).*layers=n"):
        capture(model, {"h": "all"})(INPUT)
    _, found = capture(model, {at("h", layers=n): None for n in range(2)})(INPUT)
    assert [value.shape for value in found.values()] == [(2, 3), (2, 2)]


def test_a_value_used_when_the_run_is_over_names_the_way_out():
    with run(jax.jit(SCAN), WEIGHTS, INPUT) as r:
        value = r.until("h").value
    with pytest.raises(jax.errors.UnexpectedTracerError, match="with_site_save"):
        value + 1


def test_results_that_are_no_arrays_come_back_as_they_are():
    def model(x):
        return {"x": tag("x", x), "f": jnp.tanh, "note": "text", "n": 3, "none": None}

    with run(model, INPUT) as r:
        r.until("x").set(INPUT * 2)
    value, rest = split(model, "x")(INPUT)
    for result in (r.result, patch(model, {"x": lambda x: 2 * x})(INPUT), rest(2 * value)):
        close(result["x"], 2 * INPUT)
        assert (result["f"], result["note"], result["none"]) == (jnp.tanh, "text", None)
        assert result["n"] == 3


def test_an_equinox_module_as_argument_and_result():
    eqx = pytest.importorskip("equinox")
    mlp = eqx.nn.MLP(3, 3, 4, 1, key=jax.random.key(0))

    def model(mlp, x):
        return eqx.tree_at(lambda m: m.layers[0].bias, mlp, jnp.zeros(4)), tag("out", jax.vmap(mlp)(x))

    @eqx.filter_jit
    def function(mlp, x):
        return patch(model, {"out": lambda y: y + 1})(mlp, x)

    changed, out = function(mlp, INPUT)
    close(out, jax.vmap(mlp)(INPUT) + 1)
    assert changed.activation is mlp.activation
    close(changed.layers[0].bias, jnp.zeros(4))


# One program on several devices.


def steered(weights, x, v, layers):
    with run(SCAN, weights, x) as r:
        site = r.until("h")
        kept = site.save(layers=[3, 1])
        site.edit(lambda h: h + v, layers=layers)
        every = site.save(layers="all")
    return r.result, kept.value, every.value


def sharded(function):
    spec = jax.sharding.PartitionSpec
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
    rows = spec("rows")
    out = (rows, spec(None, "rows"), spec(None, "rows"))
    return jax.shard_map(function, mesh=mesh, in_specs=(spec(), rows, spec()), out_specs=out)


@pytest.mark.parametrize("layers", [2, [0, 3], "all"])
def test_a_run_inside_shard_map(layers):
    function = lambda weights, x, v: steered(weights, x, v, layers)  # noqa: E731
    found = jax.jit(sharded(function))(WEIGHTS, INPUT, jnp.ones(3))
    jax.tree.map(close, found, jax.jit(function)(WEIGHTS, INPUT, jnp.ones(3)))
    loss = lambda f: lambda v: sum(jnp.sum(leaf**2) for leaf in f(WEIGHTS, INPUT, v))  # noqa: E731
    slopes = [jax.jit(jax.grad(loss(f)))(jnp.ones(3)) for f in (sharded(function), function)]
    close(*slopes)
    leakless(jax.grad(loss(sharded(function))), jnp.ones(3))


def test_a_sweep_over_layers_inside_shard_map_and_constants_as_edits():
    def sweep(weights, x, v):
        zeroed = lambda n: patch(SCAN, {at("h", layers=n): lambda h: jnp.zeros(h.shape)})(weights, x)  # noqa: E731
        out = jax.vmap(zeroed)(jnp.arange(LAYERS))
        return out[0], out, out

    found = jax.jit(sharded(sweep))(WEIGHTS, INPUT, jnp.ones(3))[1]
    for layer in range(LAYERS):
        close(found[layer], by_hand(WEIGHTS, INPUT, lambda n, h, layer=layer: h * 0 if n == layer else h)[0])


@pytest.mark.parametrize("name", ["scan", "scan of remat", "nested scan", "scan of jit"])
def test_explicitly_sharded_values_keep_their_sharding(name):
    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))

    def function(weights, x, layer):
        with run(STACKED[name], weights, x) as r:
            site = r.until("h")
            kept = [site.save(layers=layers) for layers in ([3, 1], 2, layer, "all")]
            site.edit(lambda h: h * 0.5, layers=layer)
        return r.result, *(one.value for one in kept)

    wanted = jax.jit(function)(WEIGHTS, INPUT, 2)
    with jax.set_mesh(mesh):
        x = jax.device_put(INPUT, jax.sharding.NamedSharding(mesh, spec("rows")))
        found = jax.jit(function)(WEIGHTS, x, 2)
        leakless(function, WEIGHTS, x, 2)
    for one, other in zip(found, wanted, strict=True):
        close(np.asarray(one), np.asarray(other))
        assert one.sharding.spec == spec(*[None] * (one.ndim - 2), "rows", None)


def test_collectives_in_the_loop_under_pmap_and_shard_map():
    centred = lambda w, x: patch(SCAN, {at("h", layers=1): lambda h: h - jax.lax.pmean(h, "rows")})(w, x)  # noqa: E731
    wanted = by_hand(WEIGHTS, INPUT, lambda n, h: 0 * h if n == 1 else h)[0]
    close(jax.pmap(centred, axis_name="rows", in_axes=(None, 0))(WEIGHTS, INPUT[None])[0], wanted)
    both = jax.jit(sharded(lambda w, x, v: (centred(w, x), x[None], x[None])))(WEIGHTS, INPUT, jnp.ones(3))
    close(both[0], wanted)


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_the_shardings_of_a_nested_jit_are_kept(kind):
    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(kind,))
    by_rows, by_columns = (jax.sharding.NamedSharding(mesh, one) for one in (spec("rows"), spec(None, "rows")))

    def model(x):
        return jax.jit(lambda x: tag("h", 2 * x), out_shardings=by_columns)(x)

    def text(function):
        with jax.set_mesh(mesh):
            x = jax.device_put(INPUT, by_rows)
            assert jax.jit(function)(x).sharding.is_equivalent_to(jax.jit(model)(x).sharding, 2)
            return str(jax.make_jaxpr(function)(x)), np.asarray(jax.jit(function)(x))

    jaxpr, value = text(patch(model, {"h": lambda h: h + 1}))
    close(value, 2 * INPUT + 1)
    assert ("reshard" if kind == jax.sharding.AxisType.Explicit else "sharding_constraint") in jaxpr
