"""What may be written: other dtypes with `cast=True`, and values that the jaxpr has as bare numbers."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from leaks import leakless

from gossamer.jax import at, patch, run, tag
from gossamer.jax.errors import WriteMismatch

HALF = jnp.linspace(-2, 2, 6, dtype=jnp.bfloat16).reshape(2, 3)
SCALES = jnp.array([1.0, 0.5, 2.0], jnp.bfloat16)


def unrolled(x):
    for scale in SCALES:
        x = tag("h", x * scale)
    return x


def scanned(x):
    return jax.lax.scan(lambda x, scale: (tag("h", x * scale), None), x, SCALES)[0]


def by_hand(x, edit):
    """Layer 1 is edited in float32, and goes on in the model's dtype."""
    for layer, scale in enumerate(SCALES):
        x = x * scale
        x = edit(x.astype(jnp.float32)).astype(jnp.bfloat16) if layer == 1 else x
    return x


def wider(h):
    return jnp.tanh(h.astype(jnp.float32)) + 0.125


@pytest.mark.parametrize("model", [unrolled, scanned])
def test_an_edit_of_another_dtype_is_cast_where_that_is_asked_for(model):
    found = jax.jit(patch(model, {at("h", layers=1): wider}, cast=True))(HALF)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, by_hand(HALF, wider))
    with pytest.raises(WriteMismatch, match=r"bfloat16\[2, 3\], you wrote float32\[2, 3\].*cast=True"):
        jax.eval_shape(patch(model, {at("h", layers=1): wider}), HALF)


@pytest.mark.parametrize("model", [unrolled, scanned])
def test_a_value_of_another_dtype_is_cast_and_differentiated(model):
    def function(value):
        out = patch(model, {at("h", layers=1): value}, cast=True)(HALF)
        return jnp.sum(out.astype(jnp.float32) ** 2)

    value = jnp.arange(6.0).reshape(2, 3)
    wanted = jax.grad(lambda value: jnp.sum(by_hand(HALF, lambda _: value).astype(jnp.float32) ** 2))(value)
    found = jax.jit(jax.grad(function))(value)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, wanted)
    leakless(jax.grad(function), value)


@pytest.mark.parametrize(
    ("have", "wrote", "taken"),
    [
        (jnp.float32, jnp.bfloat16, True),
        (jnp.float32, jnp.int32, True),
        (jnp.int32, jnp.bool_, True),
        (jnp.complex64, jnp.float32, True),
        (jnp.int32, jnp.float32, False),
        (jnp.bool_, jnp.int32, False),
        (jnp.float32, jnp.complex64, False),
    ],
)
def test_numbers_are_never_cast_to_a_narrower_kind(have, wrote, taken):
    def written():
        with run(lambda x: tag("x", x), jnp.zeros(2, have)) as r:
            r.until("x").set(jnp.ones(2, wrote), cast=True)
        return r.result

    if taken:
        np.testing.assert_array_equal(written(), jnp.ones(2, have))
    else:
        with pytest.raises(WriteMismatch, match="cast=True converts, though not from floats to integers"):
            written()


def test_a_key_is_not_cast_and_a_shape_not_broadcast():
    with pytest.raises(WriteMismatch, match="key"), run(lambda k: tag("key", k), jax.random.key(0)) as r:
        r.until("key").set(jnp.uint32(3), cast=True)
    with pytest.raises(WriteMismatch, match="broadcast"), run(lambda x: tag("x", x), HALF) as r:
        r.until("x").set(jnp.float32(3), cast=True)


def test_trees_are_cast_leaf_by_leaf():
    model = lambda x: tag("both", {"a": x, "n": jnp.int32(3)})  # noqa: E731
    with run(model, HALF) as r:
        site = r.until("both")
        site.set({"a": jnp.ones((2, 3)), "n": jnp.bool_(True)}, cast=True)
    assert (r.result["a"].dtype, r.result["n"].dtype, int(r.result["n"])) == (jnp.bfloat16, jnp.int32, 1)


# A jaxpr has scalars as bare numbers.


@pytest.mark.parametrize("number", [2.0, 3, True])
def test_a_number_given_to_a_nested_jit_is_a_site_like_any_other(number):
    model = lambda x: jax.jit(lambda x, n: x * tag("n", n))(x, number)  # noqa: E731
    with run(model, jnp.ones(3)) as r:
        site = r.until("n")
        assert (site.shape, site.dtype) == ((), jnp.asarray(number).dtype)
        site.set(jnp.asarray(not number if number is True else 2 * number))
    np.testing.assert_array_equal(r.result, jnp.ones(3) * (0 if number is True else 2 * number))


@pytest.mark.parametrize("number", [2.0, 3, True])
@pytest.mark.parametrize("peel", [(), (1,)])
def test_a_number_as_the_first_carry_of_a_scan(number, peel):
    def model(x, number):
        step = lambda carry, _: ((tag("h", carry[0] + 1), carry[1]), None)  # noqa: E731
        return jax.lax.scan(step, (x, number), None, length=3)[0]

    def function():
        with run(lambda x: jax.jit(lambda x, n: model(x, n))(x, number), jnp.zeros(2), peel=peel) as r:
            site = r.until("h")
            site.edit(lambda h: h * 10, layers=1)
        return r.result

    x, same = jax.jit(function)()
    np.testing.assert_array_equal(x, jnp.full(2, 21.0))
    assert same == number
