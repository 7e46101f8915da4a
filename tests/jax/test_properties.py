"""Random small programs with tags: the loop, the callbacks and the program written by hand agree."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.jax import at, capture, patch, run, sites, tag

X = jnp.linspace(-1.0, 1.0, 4)
STACK = jnp.linspace(0.5, 1.5, 3)
QUICK = settings(max_examples=8, deadline=None, derandomize=True)

OPERATIONS = {
    "sin": lambda t, x: t(jnp.sin(x)),
    "jit": lambda t, x: jax.jit(lambda x: t(x * 2) + 1)(x),
    "remat": lambda t, x: jax.checkpoint(lambda x: t(jnp.cos(x)))(x),
    "vmap": lambda t, x: jax.vmap(lambda one: t(one + 1))(x),
    "no tag": lambda t, x: x - 0.5,
}
SCAN = "scan"
# An edit of the n-th tag: by a number that no other tag has.
EDITS = st.dictionaries(st.integers(0, 6), st.floats(-2, 2, width=32), max_size=3)
PROGRAMS = st.lists(st.sampled_from([*OPERATIONS, SCAN]), min_size=1, max_size=5)


def program(names):
    """The program, its tags numbered in their order; a scan tags each of its steps by one name."""

    def function(x):
        for place, name in enumerate(names):
            t = lambda value, place=place: tag(f"t{place}", value)  # noqa: E731
            if name == SCAN:
                x = jax.lax.scan(lambda x, w, t=t: (t(x * w), None), x, STACK)[0]
            else:
                x = OPERATIONS[name](t, x)
        return x

    return function


def by_hand(names, x, edits):
    """The same without tags; a scan is edited at its step 1."""
    for place, name in enumerate(names):
        add = edits.get(place, 0.0)
        if name == SCAN:
            for step, w in enumerate(STACK):
                x = x * w + (add if step == 1 else 0.0)
        else:
            x = OPERATIONS[name](lambda value, add=add: value + add, x)
    return x


def body(edits):
    def edit(site):
        place = int(site.name[1:])
        if place in edits:
            site.edit(lambda h: h + jnp.float32(edits[place]), layers=None if site.length is None else 1)

    return edit


@QUICK
@given(PROGRAMS, EDITS)
@pytest.mark.filterwarnings("ignore::gossamer.jax.errors.EagerRunWarning")
def test_loop_callbacks_and_the_program_by_hand_agree(names, edits):
    function = program(names)
    with run(function, X) as looped:
        for site in looped:
            body(edits)(site)
    with run(function, X) as called:
        if len(sites(function, X)):
            called.on("t*", body(edits))
    np.testing.assert_array_equal(looped.result, called.result)
    np.testing.assert_allclose(looped.result, by_hand(names, X, edits), rtol=1e-5, atol=1e-5)


@QUICK
@given(PROGRAMS)
@pytest.mark.filterwarnings("ignore::gossamer.jax.errors.EagerRunWarning")
def test_putting_back_what_was_captured_changes_nothing(names):
    function = program(names)
    rows = sites(function, X)
    _, found = capture(function, {row.name: "all" if row.length else None for row in rows})(X)
    edits = {
        at(row.name, layers=layer): found[row.name] if layer is None else found[row.name][layer]
        for row in rows
        for layer in (range(row.length) if row.length else [None])
    }
    np.testing.assert_allclose(patch(function, edits)(X), by_hand(names, X, {}), rtol=1e-5, atol=1e-6)
