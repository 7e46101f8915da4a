"""Compiled functions are never stale: the patched and the plain trace are kept apart, and neither is made twice."""

import threading
import warnings

import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp

from gossamer.jax.patching import Patch, PatchWarning, caches, replace, tag_assign, tag_return

traced = []


def inner(x):
    traced.append("inner")
    y = x * 2
    return y + 1


jitted_inner = jax.jit(inner)


@jax.jit
def outer(x):
    traced.append("outer")
    return jitted_inner(x) + 1


@pytest.fixture(autouse=True)
def fresh():
    jax.clear_caches()
    traced.clear()


TIMES_3 = Patch({inner: [replace("x * 2", "x * 3")]})
PLUS_5 = Patch({inner: [replace("y + 1", "y + 5")]})


def test_patched_and_plain_traces_live_side_by_side(heard):
    one = jnp.float32(1)
    assert outer(one) == 4
    with TIMES_3:
        assert outer(one) == 5
        with PLUS_5:
            assert outer(one) == 9
        assert outer(one) == 5
    with PLUS_5:
        assert outer(one) == 8
    assert outer(one) == 4
    made = len(traced)
    for patches in ([], [TIMES_3], [TIMES_3, PLUS_5], [PLUS_5], []):
        for patch in patches:
            patch.install()
        outer(one)
        for patch in patches:
            patch.uninstall()
    assert made == len(traced) == 8  # four states, two functions each, every one traced once


@pytest.mark.parametrize("kind", ["grad", "vmap", "scan", "remat", "cond"])
def test_every_transformation_sees_the_patch(heard, kind):
    def model(x):
        wrapped = {
            "grad": jax.grad(lambda v: inner(v) ** 2),
            "vmap": lambda v: jax.vmap(jitted_inner)(v[None])[0],
            "scan": lambda v: jax.lax.scan(lambda c, _: (jitted_inner(c), None), v, length=2)[0],
            "remat": jax.checkpoint(inner),
            "cond": lambda v: jax.lax.cond(v > 0, jitted_inner, lambda u: u, v),
        }
        return wrapped[kind](x)

    plain = {"grad": 12.0, "vmap": 3.0, "scan": 7.0, "remat": 3.0, "cond": 3.0}[kind]
    patched = {"grad": 24.0, "vmap": 4.0, "scan": 13.0, "remat": 4.0, "cond": 4.0}[kind]
    jitted = jax.jit(model)
    assert jitted(1.0) == plain
    with TIMES_3:
        assert jitted(1.0) == patched
    assert jitted(1.0) == plain


def test_the_tags_cost_nothing_in_the_compiled_model(heard):
    from gossamer.jax.tag import LISTENING

    LISTENING.listener = None
    with Patch({inner: [tag_assign("y", "y"), tag_return("out")]}):
        assert "gossamer_tag" in str(jax.make_jaxpr(inner)(1.0))
        patched = jax.jit(inner).lower(1.0).as_text()
    assert jax.jit(inner).lower(1.0).as_text() == patched


def test_other_threads_trace_the_patched_function(heard):
    answers = []
    outer(1.0)
    with TIMES_3:
        thread = threading.Thread(target=lambda: answers.append(float(outer(1.0))))
        thread.start()
        thread.join()
    assert answers == [5.0]


def test_without_user_contexts_caches_are_cleared_with_a_warning(heard, monkeypatch):
    monkeypatch.setattr(caches, "_CONTEXT", None)
    assert outer(1.0) == 4
    with pytest.warns(PatchWarning, match="no user contexts"):
        TIMES_3.install()
    assert outer(1.0) == 5
    TIMES_3.uninstall()
    assert outer(1.0) == 4


def test_a_warning_made_an_error_leaves_nothing_patched(heard, monkeypatch):
    monkeypatch.setattr(caches, "_CONTEXT", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PatchWarning):
            TIMES_3.install()
    assert inner(1.0) == 3
