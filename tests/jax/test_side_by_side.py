"""Runs that are held by generators, and end in any order: what JAX records into is left as it was found."""

import pytest

pytest.importorskip("jax.numpy")

import gc

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, STACKED, UNROLLED, WEIGHTS, by_hand

from gossamer.jax import compat, run
from gossamer.jax.errors import ResumedInOtherTrace, RunNotFinished

pytestmark = [
    pytest.mark.usefixtures("smaller_heap"),
    pytest.mark.filterwarnings("ignore::gossamer.jax.errors.EagerRunWarning"),
]
SCANS = [("staged", STACKED[place]) for place in ("scan", "scan of remat", "remat of scan", "nested scan")]
BODIES = [*SCANS, ("live", UNROLLED["jit"]), ("live", UNROLLED["remat"])]
untouched, _ = by_hand(WEIGHTS, INPUT)


def visits(model, x, mode="staged", results=None):
    """The sites of a run that lives as long as the generator does."""
    with run(model, WEIGHTS, x, mode=mode) as r:
        yield from r
    if results is not None:
        results.append(r.result)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def assert_untouched():
    gc.collect()
    assert compat.is_eager(compat.current_trace())
    assert (jnp.ones(3) + 1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("mode", "model"), SCANS)
def test_a_run_opened_in_a_body_that_ends_before_it_is_refused(mode, model):
    with pytest.raises(RunNotFinished, match=r"opened while another one stood in the body .* Open both before either"):
        for _ in zip(visits(model, INPUT), visits(model, 2 * INPUT), strict=False):
            pass
    assert_untouched()


@pytest.mark.parametrize("model", [UNROLLED["top"], UNROLLED["jit"]])
def test_two_generators_of_runs_without_bodies_go_on_side_by_side(model):
    results = []
    for _ in zip(visits(model, INPUT, results=results), visits(model, INPUT, results=results), strict=True):
        pass
    close(results[0], untouched)
    close(results[1], untouched)
    assert_untouched()


@pytest.mark.parametrize("order", ["first", "second", "dropped"])
@pytest.mark.parametrize(("mode", "model"), BODIES)
def test_generators_that_are_closed_in_any_order(mode, model, order):
    first, second = visits(model, INPUT, mode), visits(model, 2 * INPUT, mode)
    next(first)
    next(second)
    if order == "dropped":
        del first, second
    else:
        for one in (first, second) if order == "first" else (second, first):
            one.close()
    assert_untouched()


def test_the_one_that_was_left_over_is_refused():
    first, second = visits(SCANS[0][1], INPUT), visits(SCANS[0][1], INPUT)
    next(first)
    next(second)
    first.close()
    assert_untouched()
    with pytest.raises(ResumedInOtherTrace):
        next(second)
    assert_untouched()


def test_a_run_left_over_from_a_trace_is_dropped_in_another():
    left = []

    def leaving(x):
        left.append(visits(SCANS[0][1], x))
        next(left[0])
        raise KeyError

    def dropping(x):
        left.clear()
        gc.collect()
        return x + 1

    with pytest.raises(KeyError):
        jax.jit(leaving)(INPUT)
    assert_untouched()
    assert jax.jit(dropping)(1.0) == 2
    assert_untouched()


def test_the_named_scopes_around_two_runs_are_those_after_them():
    def function(weights):
        with jax.named_scope("outer"):
            with run(SCANS[1][1], weights, INPUT) as a, run(SCANS[1][1], weights, 2 * INPUT) as b:
                for _ in zip(a, b, strict=True):
                    pass
            return a.result * 3.5 + b.result

    equations = jax.make_jaxpr(function)(WEIGHTS).eqns
    assert {str(eqn.source_info.name_stack) for eqn in equations} == {"outer"}
    assert [eqn.primitive.name for eqn in equations[-2:]] == ["mul", "add"]
