"""Names for remat policies as sites: read, written, counted, and still what the policy goes by."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from leaks import leakless
from tiny_models import INPUT, LAYERS, WEIGHTS, by_hand

from gossamer.jax import at, capture, errors, patch, run, sites, split, tag

POLICIES = {
    "saved": jax.checkpoint_policies.save_only_these_names("h"),
    "not saved": jax.checkpoint_policies.save_only_these_names("another"),
}
untouched, hidden = by_hand(WEIGHTS, INPUT)


def block(x, w):
    return x + checkpoint_name(jnp.tanh(x @ w), "h")


def unrolled(weights, x):
    for w in weights:
        x = block(x, w)
    return x


def remat_in_scan(policy):
    def model(weights, x):
        body = jax.checkpoint(lambda x, w: (block(x, w), None), policy=policy)
        return jax.lax.scan(body, x, weights)[0]

    return model


MODELS = {"unrolled": unrolled, **{name: remat_in_scan(policy) for name, policy in POLICIES.items()}}


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_names_are_read_written_and_differentiated(model):
    def function(scale):
        changed = patch(model, {at("h", layers=1): lambda h: h * scale}, checkpoint_names=True)
        out, found = capture(changed, {"h": [2, 1]}, checkpoint_names=True)(WEIGHTS, INPUT)
        return jnp.sum(out**2) + jnp.sum(found["h"]), (out, found["h"])

    def reference(scale):
        out, seen = by_hand(WEIGHTS, INPUT, lambda n, h: h * scale if n == 1 else h)
        kept = jnp.stack([seen[2], seen[1] * scale])
        return jnp.sum(out**2) + jnp.sum(kept), (out, kept)

    both = [jax.jit(jax.value_and_grad(f, has_aux=True))(0.5) for f in (function, reference)]
    jax.tree.map(close, *both)
    leakless(jax.value_and_grad(function, has_aux=True), 0.5)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_split_at_a_name(model):
    @jax.jit
    def function():
        value, rest = split(model, at("h", layers=1), checkpoint_names=True)(WEIGHTS, INPUT)
        return value, rest(value * 0.5)

    value, out = function()
    close(value, hidden[1])
    close(out, by_hand(WEIGHTS, INPUT, lambda n, h: h * 0.5 if n == 1 else h)[0])


def products(function):
    """How many matrix products the gradient takes: one more where the backward pass recomputes the named one."""
    text = str(jax.make_jaxpr(jax.grad(lambda w: jnp.sum(function(w, INPUT) ** 2)))(WEIGHTS))
    return text.count("dot_general[")


def test_the_policy_still_goes_by_the_name():
    def model(policy):
        layer = lambda x, w: (x + jnp.tanh(checkpoint_name(x @ w, "h")), None)  # noqa: E731
        return lambda weights, x: jax.lax.scan(jax.checkpoint(layer, policy=policy), x, weights)[0]

    edited = lambda model: patch(model, {at("h", layers=1): lambda h: h * 0.5}, checkpoint_names=True)  # noqa: E731
    saved, dropped = (model(policy) for policy in POLICIES.values())
    assert products(dropped) == products(saved) + 1
    assert products(edited(saved)) == products(saved)
    assert products(edited(dropped)) == products(dropped)


def test_the_table_and_the_loop_show_names_where_they_are_asked_for():
    def model(weights, x):
        with jax.named_scope("stack"):
            return tag("out", MODELS["saved"](weights, x))

    assert [row.name for row in sites(model, WEIGHTS, INPUT)] == ["out"]
    h, out = sites(model, WEIGHTS, INPUT, checkpoint_names=True)
    assert (h.name, h.path, h.length, h.scope, h.shape, out.name) == ("h", "stack", LAYERS, "remat", (2, 3), "out")
    assert h.source.startswith(__file__)

    def visited(**options):
        names = []

        def function():
            with run(model, WEIGHTS, INPUT, **options) as r:
                names.extend(site.name for site in r)
            return r.result

        jax.eval_shape(function)
        return names

    assert visited() == ["out"]
    assert visited(checkpoint_names=True) == ["h", "out"]


@pytest.mark.parametrize("transform", [jax.grad, lambda f: lambda x: jax.jvp(f, (x,), (x,))[1], jax.hessian])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        jax.jit,
        jax.checkpoint,
        jax.vmap,
        lambda f: lambda x: jax.lax.scan(lambda x, _: (f(x), None), x, None, length=2)[0],
    ],
)
def test_a_name_that_the_model_differentiates_is_read_only_just_as_a_tag(transform, wrap):
    both = lambda x: checkpoint_name(tag("t", x**3), "n")  # noqa: E731
    inner = lambda x: transform(lambda x: jnp.sum(wrap(both)(x)))(x)  # noqa: E731

    def marks(function):
        found = {}

        def note(site):
            found.setdefault(site.name, set()).add(site.inner_diff)
            if site.inner_diff:
                with pytest.raises(errors.Unsupported, match="differentiates itself"):
                    site.edit(lambda h: h, layers=None if site.length is None else "all")

        def function_with_run():
            with run(function, jnp.ones(3), checkpoint_names=True) as r:
                r.on("*", note)
            return r.result

        jax.eval_shape(function_with_run)
        return found

    assert marks(inner) == {"t": {True}, "n": {True}}
    assert marks(lambda x: wrap(both)(x)) == {"t": {False}, "n": {False}}


def test_a_run_inside_grad_may_write_names():
    changed = patch(unrolled, {at("h", layers=0): lambda h: 2 * h}, checkpoint_names=True)
    wanted = jax.grad(lambda x: jnp.sum(by_hand(WEIGHTS, x, lambda n, h: 2 * h if n == 0 else h)[0]))(INPUT)
    close(jax.grad(lambda x: jnp.sum(changed(WEIGHTS, x)))(INPUT), wanted)


def test_an_outer_run_sees_what_an_inner_one_left():
    inner = patch(unrolled, {at("h", layers=0): jnp.zeros_like}, checkpoint_names=True)
    _, found = capture(inner, {"h": [0, 1]}, checkpoint_names=True)(WEIGHTS, INPUT)
    close(found["h"][0], 0 * INPUT)
    close(found["h"][1], jnp.tanh(INPUT @ WEIGHTS[1]))


def test_a_name_that_was_not_asked_for_is_explained():
    for use in (
        capture(unrolled, {"h": 1}),
        patch(unrolled, {at("h", layers=1): jnp.sin}),
        split(unrolled, at("h", 1)),
    ):
        with pytest.raises(errors.UnknownTag, match=r"'h': it is a checkpoint_name .* Pass checkpoint_names=True"):
            jax.eval_shape(lambda use=use: use(WEIGHTS, INPUT))
    with pytest.raises(errors.NeedsStaged, match="checkpoint_names"):
        run(unrolled, WEIGHTS, INPUT, mode="live", checkpoint_names=True)
