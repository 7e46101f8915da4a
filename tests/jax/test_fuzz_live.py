"""Live runs of random nested programs, alone and side by side: the result is right, or the library says no."""

import pytest

pytest.importorskip("jax.numpy")

import contextlib
import random

import jax
import jax.numpy as jnp
import numpy as np
from random_programs import ByHand, in_jax, program

from gossamer.jax import compat, run
from gossamer.jax.errors import ResumedInOtherTrace

X = jnp.linspace(-1.0, 1.5, 6).reshape(2, 3)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def scales_of(seed, tags):
    """A number for every tag that is written."""
    source = random.Random(seed)
    return {name: source.uniform(-1, 1) for name, facts in tags.items() if facts.writable and source.random() < 0.7}


def act(scales, site):
    if site.name in scales:
        site.edit(lambda h: jnp.tanh(h * scales[site.name]))


def by_hand(nodes, scales):
    return ByHand(lambda name, _, h: jnp.tanh(h * scales[name]) if name in scales else h)(nodes, X)


@pytest.mark.parametrize("seed", range(6))
def test_a_live_run_is_the_program_by_hand(seed):
    nodes, tags = program(seed)
    scales = scales_of(seed, tags)
    with run(in_jax(nodes), X, mode="live") as r:
        for site in r:
            act(scales, site)
    close(r.result, by_hand(nodes, scales))
    close(in_jax(nodes)(X), by_hand(nodes, {}))


def side_by_side(programs, order):
    """By turns; now and then a configuration of JAX is set around a step, and taken back before the next."""
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(run(in_jax(nodes), X, mode="live")) for nodes, _ in programs]
        going, refused = list(range(len(runs))), 0
        while going:
            at = order.choice(going)
            settings = [
                jax.default_matmul_precision("float32"),
                jax.numpy_rank_promotion("raise"),
                contextlib.nullcontext(),
            ]
            try:
                with order.choice(settings):
                    site = next(runs[at], None)
            except ResumedInOtherTrace:
                refused += 1
                assert refused < 1000
                continue
            if site is None:
                going.remove(at)
            else:
                act(programs[at][1], site)
        return [r.result for r in runs]


@pytest.mark.parametrize("seed", range(6))
def test_live_runs_side_by_side(seed):
    programs = []
    for number in (100 + seed, 200 + seed, 300 + seed):
        nodes, tags = program(number)
        programs.append((nodes, scales_of(number, tags)))
    before = jax.config.jax_default_matmul_precision, jax.config.jax_numpy_rank_promotion
    for found, (nodes, scales) in zip(side_by_side(programs, random.Random(seed)), programs, strict=True):
        close(found, by_hand(nodes, scales))
        close(in_jax(nodes)(X), by_hand(nodes, {}))
    assert compat.is_eager(compat.current_trace())
    assert (jax.config.jax_default_matmul_precision, jax.config.jax_numpy_rank_promotion) == before
