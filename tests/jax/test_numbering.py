"""One numbering of sites in all modes, and numbers that no site has."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, LAYERS, STACKED, UNROLLED, WEIGHTS, by_hand

from gossamer.jax import at, capture, patch, run, sites, split, tag
from gossamer.jax.errors import InstrumentError, LayerOutOfRange, UnusedIntervention

AROUND = pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])


def branching(x, taken):
    """Four layers, each with a tag in both branches of a choice: a jaxpr has the branch of False first."""
    for layer in range(4):
        x = jax.lax.cond(taken[layer], lambda x: x + tag("h", 2 * x), lambda x: x + tag("h", 3 * x), x)
    return x


def factor(taken, zeroed=None):
    """What comes of 1: each layer multiplies by 4 or 3, a zeroed tag's by 1."""
    product = 1
    for layer, first in enumerate(taken):
        product *= 1 if 2 * layer + first == zeroed else (3 if first else 4)
    return product


@AROUND
@pytest.mark.parametrize("number", range(8))
def test_tags_of_both_branches_count_whether_they_run_or_not(number, around):
    taken = jnp.array([number % 2 == 1] * 4)
    changed = around(patch(lambda x: branching(x, taken), {at("h", layers=number): jnp.zeros_like}))
    assert float(changed(jnp.float32(1))) == factor(taken.tolist(), number)


def test_a_patch_of_a_branch_that_is_seen_not_to_be_taken_is_refused():
    taken = jnp.array([True] * 4)
    for number in (0, 4, [4, 5]):
        with pytest.raises(UnusedIntervention, match=r"never used: patch at at\('h', layers="):
            patch(lambda x: branching(x, taken), {at("h", layers=number): jnp.zeros_like})(jnp.float32(1))
    with pytest.raises(UnusedIntervention, match="capture of"):
        capture(lambda x: branching(x, taken), {"h": [0, 1]})(jnp.float32(1))
    _, found = capture(lambda x: branching(x, taken), {"h": [7, 3]})(jnp.float32(1))
    assert found["h"].tolist() == [2 * 27, 2 * 3]


def test_the_loop_has_the_numbers_of_the_table():
    taken = jnp.array([True, False, True, False])
    model = lambda x: branching(x, taken)  # noqa: E731
    with run(model, jnp.float32(1)) as r:
        eager = [site.layer for site in r]
    assert eager == [1, 2, 5, 6]
    assert [row.layer for row in sites(model, jnp.float32(1))] == list(range(8))


def test_layers_after_a_peeled_scan_keep_their_numbers():
    model = lambda w, x: UNROLLED["top"](w, STACKED["scan"](w, x))  # noqa: E731

    def numbers(peel):
        seen = []

        def function():
            with run(model, WEIGHTS, INPUT, peel=peel) as r:
                seen.extend(site.layer for site in r if site.scope == "top")
            return r.result

        jax.eval_shape(function)
        return seen

    assert numbers([]) == numbers([0, 2]) == [1, 2, 3, 4]


@pytest.mark.parametrize("place", UNROLLED)
@pytest.mark.parametrize("layers", [99, [1, LAYERS], -1])
def test_a_number_that_no_layer_has_is_refused_in_the_loop(place, layers):
    def function():
        with run(UNROLLED[place], WEIGHTS, INPUT) as r:
            for site in r:
                site.edit(lambda h: h * 0, layers=layers)
        return r.result

    with pytest.raises(LayerOutOfRange, match=r"no layer \d+ among the sites, which are 0, 1, 2, 3|not counted from"):
        jax.eval_shape(function)


def test_a_number_that_no_layer_has_is_refused_at_a_peeled_layer():
    def function():
        with run(STACKED["scan"], WEIGHTS, INPUT, peel=1) as r:
            r.until("h").edit(lambda h: h * 0, layers=99)
        return r.result

    with pytest.raises(LayerOutOfRange, match="4 stacked layers, 0 to 3"):
        jax.eval_shape(function)


def test_a_traced_number_in_the_loop_is_that_layer_and_nan_where_there_is_none():
    @jax.jit
    @jax.vmap
    def swept(number):
        with run(UNROLLED["top"], WEIGHTS, INPUT) as r:
            for site in r:
                site.edit(lambda h: h * 0.5, layers=number)
        return r.result

    found = swept(jnp.arange(LAYERS + 1))
    for layer in range(LAYERS):
        wanted = by_hand(WEIGHTS, INPUT, lambda n, h, layer=layer: h * 0.5 if n == layer else h)[0]
        np.testing.assert_allclose(found[layer], wanted, rtol=1e-5, atol=1e-6)
    assert jnp.isnan(found[LAYERS]).all()


def test_a_traced_number_of_a_layer_elsewhere_is_none_at_this_path():
    def model(x):
        for name in ("a", "b"):
            with jax.named_scope(name):
                x = tag("h", 2 * tag("h", x))
        return x

    swept = jax.jit(jax.vmap(lambda n: patch(model, {at("h", layers=n, path="b"): lambda h: h * 3})(1.0 + 0 * n)))
    found = swept(jnp.arange(4))
    assert jnp.isnan(found[:2]).all()
    assert found[2:].tolist() == [12.0, 12.0]


# Sites that share a path.


def twice(weights, x):
    return STACKED["scan"](weights, STACKED["scan of remat"](weights, x))


def test_sites_that_share_a_path_are_told_apart():
    middle = by_hand(WEIGHTS, INPUT)[0]
    for nth, (first, second) in enumerate([(lambda n, h: 0 * h, lambda n, h: h), (lambda n, h: h, lambda n, h: 0 * h)]):
        changed = jax.jit(patch(twice, {at("h", layers="all", nth=nth): jnp.zeros_like}))(WEIGHTS, INPUT)
        wanted = by_hand(WEIGHTS, by_hand(WEIGHTS, INPUT, first)[0], second)[0]
        np.testing.assert_allclose(changed, wanted, rtol=1e-5, atol=1e-6)
    _, found = jax.jit(capture(twice, {at("h", nth=1): 2}))(WEIGHTS, INPUT)
    np.testing.assert_allclose(found[at("h", nth=1)], by_hand(WEIGHTS, middle)[1][2], rtol=1e-5, atol=1e-6)

    @jax.jit
    def cut():
        value, rest = split(twice, at("h", layers=2, nth=1))(WEIGHTS, INPUT)
        return value, rest(value * 0)

    value, rest = cut()
    np.testing.assert_allclose(value, found[at("h", nth=1)], rtol=1e-5, atol=1e-6)
    wanted = by_hand(WEIGHTS, middle, lambda n, h: 0 * h if n == 2 else h)[0]
    np.testing.assert_allclose(rest, wanted, rtol=1e-5, atol=1e-6)


def test_one_of_several_unrolled_sites():
    _, found = capture(UNROLLED["top"], at("h", nth=2))(WEIGHTS, INPUT)
    np.testing.assert_allclose(found[at("h", nth=2)], by_hand(WEIGHTS, INPUT)[1][2], rtol=1e-6)


@pytest.mark.parametrize("nth", [2, -1])
def test_one_that_is_not_there(nth):
    with pytest.raises(InstrumentError, match=r"nth=-?\d\): 2 rows of `sites` have this name and path"):
        jax.eval_shape(capture(twice, at("h", layers=0, nth=nth)), WEIGHTS, INPUT)


# What was captured is found by a key that says the same.


@pytest.mark.parametrize("layers", [2, np.int64(2), [2, 0], (2, 0), np.array([2, 0]), "all"])
def test_what_was_captured_is_found_by_an_equal_key(layers):
    plain = np.asarray(layers).tolist() if not isinstance(layers, str) else layers
    _, found = jax.jit(capture(STACKED["scan"], [at("h", layers=layers)]))(WEIGHTS, INPUT)
    hidden = jnp.stack(by_hand(WEIGHTS, INPUT)[1])
    wanted = hidden if plain == "all" else hidden[jnp.asarray(plain)]
    np.testing.assert_allclose(found[at("h", layers=plain)], wanted, rtol=1e-5, atol=1e-6)
    others = (at("g", plain), at("h", 3), at("h", [3]), at("h", plain, path="*"), at("h", plain, nth=0))
    assert not [other for other in others if other in found]


def test_two_edits_of_one_site_are_given_as_pairs():
    edits = [(at("h", layers=2), lambda h: h * 2), (at("h", layers=2), lambda h: h + 5)]
    found = jax.jit(patch(STACKED["scan"], edits))(WEIGHTS, INPUT)
    wanted = by_hand(WEIGHTS, INPUT, lambda n, h: h * 2 + 5 if n == 2 else h)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
