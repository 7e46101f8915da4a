"""Live mode: the real Python of a model, for what cannot be staged."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, STACKED, UNROLLED, WEIGHTS, by_hand

from gossamer.jax import run, tag
from gossamer.jax.errors import NeedsStaged, ResumedInOtherTrace, ScopedRead, TagNotReached, UnusedIntervention

halved = by_hand(WEIGHTS, INPUT, lambda layer, h: h * 0.5 if layer == 2 else h)[0]


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def live(model, *args, edit=lambda h: h * 0.5):
    with run(model, *args, mode="live") as r:
        for site in r:
            if site.layer == 2:
                site.edit(edit)
    return r.result


@pytest.mark.parametrize("place", UNROLLED)
def test_edits_reach_every_place(place):
    close(live(UNROLLED[place], WEIGHTS, INPUT), halved)


@pytest.mark.parametrize("place", ["top", "jit"])
def test_under_jit_and_grad(place):
    wanted = jax.grad(lambda v: jnp.sum(by_hand(WEIGHTS, INPUT, lambda n, h: h * v if n == 2 else h)[0]))(0.5)
    found = jax.grad(lambda v: jnp.sum(live(UNROLLED[place], WEIGHTS, INPUT, edit=lambda h: h * v)))
    close(jax.jit(found)(0.5), wanted)


def test_of_two_runs_in_inner_traces_the_later_one_goes_on_first():
    model = UNROLLED["jit"]
    with run(model, WEIGHTS, INPUT, mode="live") as a, run(model, WEIGHTS, INPUT, mode="live") as b:
        next(a)
        next(b)
        with pytest.raises(ResumedInOtherTrace, match="stopped last goes first"):
            next(a)
        for site in b:
            if site.layer == 2:
                site.edit(lambda h: h * 0.5)
        close(b.result, halved)
        for _ in a:
            pass
    close(a.result, by_hand(WEIGHTS, INPUT)[0])


def test_python_that_needs_values():
    def model(x):
        return tag("h", x) if jnp.sum(tag("x", x)) > 0 else -x

    with run(model, INPUT, mode="live") as r:
        site = r.until("x")
        site.set(-jnp.abs(site.value))
        with pytest.raises(TagNotReached, match="'h' was not reached"):
            r.until("h")
    close(r.result, -INPUT)


def test_a_value_of_an_inner_trace_cannot_be_read():
    for place in ("jit", "remat", "inner vmap"):
        with run(UNROLLED[place], WEIGHTS, INPUT, mode="live") as r:
            site = r.until("h")
            assert site.scope == "inner"
            with pytest.raises(ScopedRead, match=r"inner trace.*edit"):
                site.value  # noqa: B018


def test_what_needs_a_staged_run():
    for act in (lambda s: s.save(), lambda s: s.edit(lambda h: h, layers=1)):
        with pytest.raises(NeedsStaged, match="staged"), run(STACKED["scan"], WEIGHTS, INPUT, mode="live") as r:
            act(next(r))
    with pytest.raises(NeedsStaged, match="peel"):
        run(STACKED["scan"], WEIGHTS, INPUT, mode="live", peel=[1])


def test_an_unused_callback():
    with pytest.raises(UnusedIntervention, match=r"on\('g'\)"), run(jnp.sin, INPUT, mode="live") as r:
        r.on("g", lambda site: None)


def test_resuming_an_inner_trace_elsewhere_is_refused():
    with run(UNROLLED["jit"], WEIGHTS, INPUT, mode="live") as r:
        next(r)
        with pytest.raises(ResumedInOtherTrace):
            jax.vmap(lambda x: next(r) and x)(jnp.ones(2))
    close(r.result, by_hand(WEIGHTS, INPUT)[0])


def test_two_runs_in_turn_at_the_top():
    model = UNROLLED["top"]
    with run(model, WEIGHTS, INPUT, mode="live") as a, run(model, WEIGHTS, INPUT, mode="live") as b:
        for one, other in zip(a, b, strict=True):
            if one.layer == 2:
                other.set(one.value * 0.5)
    close(a.result, by_hand(WEIGHTS, INPUT)[0])
    close(b.result, halved)


def test_configuration_opened_in_the_loop_is_not_the_models():
    seen = []

    def model(x):
        for _ in range(2):
            x = tag("h", x)
            seen.append(jax.config.jax_default_matmul_precision)
        with jax.default_matmul_precision("float32"):
            return tag("inside", x)

    with run(model, INPUT, mode="live") as r:
        next(r)
        context = jax.default_matmul_precision("bfloat16")
        context.__enter__()
        next(r)
        r.until("inside")
        assert jax.config.jax_default_matmul_precision == "bfloat16"
        context.__exit__(None, None, None)
    assert seen == [None, None]
    assert jax.config.jax_default_matmul_precision is None


def test_tags_in_the_loops_own_code_are_not_heard():
    with run(UNROLLED["top"], WEIGHTS, INPUT, mode="live") as r:
        names = []
        for site in r:
            site.set(tag("mine", site.value))
            names.append(site.name)
    assert names == ["h"] * len(WEIGHTS)


def test_modules_of_flax_that_wait_side_by_side():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = tag("h", nn.Dense(3)(x))
            return x

    net = Net()
    params = net.init(jax.random.key(0), INPUT)
    with run(net.apply, params, INPUT, mode="live") as a, run(net.apply, params, 2 * INPUT, mode="live") as b:
        for one, other in zip(a, b, strict=True):
            one.set(one.value)
            other.set(other.value)
            nn.Dense(3).init(jax.random.key(1), INPUT)
    close(a.result, net.apply(params, INPUT))
    close(b.result, net.apply(params, 2 * INPUT))
