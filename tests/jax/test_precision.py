"""Parts of a model in 64 bits, weak types, and `jax.debug_nans`: a run leaves them as they are."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, LAYERS, STACKED, UNROLLED, WEIGHTS, by_hand

from gossamer.jax import at, capture, patch, run, split, tag
from gossamer.jax.errors import WriteMismatch

pytestmark = pytest.mark.filterwarnings("ignore::gossamer.jax.errors.EagerRunWarning")
AROUND = pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
SCALES = np.array([1.0, 0.3, -0.7])
THIRD = 1 / 3  # not a number of 32 bits


def wide_layer(x, scale):
    """Computed in 64 bits, from and to 32."""
    with jax.enable_x64(True):
        return jnp.sin(tag("h", x.astype(jnp.float64) * scale)).astype(jnp.float32)


def unrolled(x):
    for scale in np.float32(SCALES):
        x = wide_layer(x, scale)
    return x


def scanned(wrap):
    return lambda x: jax.lax.scan(lambda x, s: (wrap(wide_layer)(x, s), None), x, jnp.float32(SCALES))[0]


def wide_scan(x):
    """The scan itself, with its carry, is in 64 bits."""
    with jax.enable_x64(True):
        body = lambda x, s: (jnp.sin(tag("h", x * s)).astype(jnp.float32).astype(jnp.float64), None)  # noqa: E731
        return jax.lax.scan(body, x.astype(jnp.float64), jnp.float32(SCALES))[0].astype(jnp.float32)


WIDE = {
    "unrolled": unrolled,
    "scan": scanned(lambda f: f),
    "scan of remat": scanned(jax.checkpoint),
    "scan of vmap": scanned(lambda f: jax.vmap(f, (1, None), 1)),
    "scan of cond": scanned(lambda f: lambda x, s: jax.lax.cond(jnp.sum(x) > -99, f, lambda x, s: x, x, s)),
    "scan in 64 bits": wide_scan,
}


def in_numpy(x, edit=lambda layer, h: h):
    seen = []
    for layer, scale in enumerate(np.float32(SCALES).astype(np.float64)):
        seen.append(x.astype(np.float64) * scale)
        x = np.sin(edit(layer, seen[-1])).astype(np.float32)
    return x, seen


def shifted(h):
    return h + THIRD


def assert_near(found, wanted):
    """To the last digit or two of what it is stored in."""
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(wanted.dtype).eps, atol=0)


@AROUND
@pytest.mark.parametrize("place", WIDE)
def test_a_part_in_64_bits_is_read_and_written(place, around):
    x = np.asarray(INPUT)
    model = WIDE[place]
    changed = around(patch(model, {at("h", layers=1): shifted}))(INPUT)
    assert_near(changed, in_numpy(x, lambda n, h: h + THIRD if n == 1 else h)[0])
    if place != "scan of cond":
        out, found = around(capture(model, {"h": [2, 0], at("h", layers=1): None, at("h", layers="all"): None}))(INPUT)
        wanted, seen = in_numpy(x)
        assert_near(out, wanted)
        turned = lambda h: h.T if place == "scan of vmap" else h  # noqa: E731
        assert_near(found["h"][1], turned(seen[0]))
        assert_near(found[at("h", layers=1)], turned(seen[1]))
        assert found[at("h", layers="all")].shape == (3, *turned(x).shape)
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("place", ["unrolled", "scan", "scan of remat", "scan in 64 bits"])
def test_such_a_part_is_cut_in_two_and_peeled(place):
    @jax.jit
    def function():
        value, rest = split(WIDE[place], at("h", layers=1))(INPUT)
        with run(WIDE[place], INPUT, peel=() if place == "unrolled" else 1) as r:
            for site in r:
                site.edit(shifted, layers=1)
        return value, rest(value), r.result

    value, out, changed = function()
    x = np.asarray(INPUT)
    wanted, seen = in_numpy(x)
    assert_near(value, seen[1])
    assert_near(out, wanted)
    assert_near(changed, in_numpy(x, lambda n, h: h + THIRD if n == 1 else h)[0])


@pytest.mark.parametrize("place", WIDE)
def test_the_loop_has_the_setting_of_its_own(place):
    """Also between the steps of two runs: what a model computes in is not what its experimenter computes in."""
    seen = []

    def function():
        with run(WIDE[place], INPUT) as a, run(WIDE[place], 2 * INPUT) as b:
            for one, other in zip(a, b, strict=True):
                seen.append(jax.config.jax_enable_x64)
                one.edit(shifted, layers=one.length and 1)
                other.edit(shifted, layers=other.length and 1)
                seen.append(jax.config.jax_enable_x64)
        return a.result, b.result

    jax.eval_shape(function)
    assert seen
    assert not any(seen)
    assert not jax.config.jax_enable_x64


def test_a_value_computed_in_32_bits_is_refused_and_cast_where_that_is_asked_for():
    with pytest.raises(WriteMismatch, match=r"the model has float64\[2, 3\], you wrote float32\[2, 3\].*cast=True"):
        patch(unrolled, {at("h", layers=1): jnp.float32(INPUT)})(INPUT)
    found = patch(unrolled, {at("h", layers=1): jnp.float32(INPUT)}, cast=True)(INPUT)
    assert_near(found, in_numpy(np.asarray(INPUT), lambda n, h: np.float64(INPUT) if n == 1 else h)[0])


# Weak types: numbers that take the dtype of what they meet.


WEAK = {
    "top": lambda: tag("h", jnp.asarray(2.0) * 1.5),
    "jit": lambda: jax.jit(lambda x: tag("h", x * 1.5))(2.0),
    "scan": lambda: jax.lax.scan(lambda x, _: (tag("h", x * 1.5), None), 2.0, None, length=3)[0],
    "scan of remat": lambda: jax.lax.scan(jax.checkpoint(lambda x, _: (tag("h", x * 1.5), None)), 2.0, None, length=3)[
        0
    ],
    "cond": lambda: jax.jit(lambda x: jax.lax.cond(x > 0, lambda x: tag("h", x * 1.5), lambda x: x * 2.0, x))(2.0),
    "integer": lambda: tag("h", jnp.asarray(2) * 3),
}


@AROUND
@pytest.mark.parametrize("place", WEAK)
def test_a_patched_number_is_as_weak_as_it_was(place, around):
    model = WEAK[place]
    plain = around(model)()
    assert plain.weak_type
    for layers in ("all", 0):
        for change in (lambda h: h, lambda h: h + 1, lambda h: h * jnp.ones((), h.dtype), jnp.ones((), plain.dtype)):
            changed = around(patch(model, {at("h", layers=layers): change}))()
            assert changed.weak_type
            assert (jnp.bfloat16(1) * changed).dtype == (jnp.bfloat16(1) * plain).dtype == jnp.bfloat16
    assert around(patch(model, {at("h", layers=0): lambda h: h}))() == plain


@pytest.mark.parametrize("place", [place for place in WEAK if place != "cond"])
def test_a_captured_number_is_as_weak_as_it_was(place):
    for layers in (0, "all"):
        _, found = jax.jit(capture(WEAK[place], {"h": layers}))()
        assert found["h"].weak_type or (layers == "all" and not place.startswith("scan"))  # jnp.stack makes it strong


def test_strong_types_stay_strong():
    changed = patch(UNROLLED["top"], {at("h", layers=1): lambda h: h * 2})(WEIGHTS, INPUT)
    assert not changed.weak_type


# NaN is there only where it says something.


@AROUND
@pytest.mark.parametrize("place", ["scan", "scan of remat", "nested scan", "top"])
def test_debug_nans_finds_none_in_what_a_run_adds(place, around):
    model = {**STACKED, **UNROLLED}[place]
    changed = patch(model, {at("h", layers=2): lambda h: h * 0.5})
    with jax.debug_nans(True):
        out, found = around(capture(changed, {"h": [3, 1]}))(WEIGHTS, INPUT)
        swept = around(jax.vmap(lambda n: patch(model, {at("h", layers=n): lambda h: h * 0.5})(WEIGHTS, INPUT)))
        results = swept(jnp.arange(LAYERS))
        if place != "top":
            kept = around(jax.vmap(lambda n: capture(model, {"h": n})(WEIGHTS, INPUT)[1]["h"]))(jnp.arange(LAYERS))
            np.testing.assert_allclose(kept, jnp.stack(by_hand(WEIGHTS, INPUT)[1]), rtol=1e-5, atol=1e-6)
    wanted, hidden = by_hand(WEIGHTS, INPUT, lambda n, h: h * 0.5 if n == 2 else h)
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[2], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["h"][1], hidden[1], rtol=1e-5, atol=1e-6)


@AROUND
def test_debug_nans_finds_a_layer_that_is_not_there(around):
    with jax.debug_nans(True):
        for function in (
            lambda n: patch(STACKED["scan"], {at("h", layers=n): lambda h: h * 0.5})(WEIGHTS, INPUT),
            lambda n: capture(STACKED["scan"], {"h": n})(WEIGHTS, INPUT)[1]["h"],
        ):
            with pytest.raises(FloatingPointError, match="nan"):
                around(jax.vmap(function))(jnp.array([0, LAYERS]))


def test_a_save_at_several_traced_layers_is_nan_where_there_is_none():
    found = jax.jit(lambda n: capture(STACKED["nested scan"], {"h": n})(WEIGHTS, INPUT)[1]["h"])(jnp.array([1, 9, 3]))
    hidden = by_hand(WEIGHTS, INPUT)[1]
    assert jnp.isnan(found[1]).all()
    np.testing.assert_allclose(found[jnp.array([0, 2])], jnp.stack([hidden[1], hidden[3]]), rtol=1e-5, atol=1e-6)
