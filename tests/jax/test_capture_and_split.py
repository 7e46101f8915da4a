"""`capture`, `patch`, `split` and `sites`."""

import pytest

pytest.importorskip("jax.numpy")

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import INPUT, LAYERS, STACKED, UNROLLED, WEIGHTS, by_hand

from gossamer.jax import at, capture, patch, sites, split, tag

untouched, hidden = by_hand(WEIGHTS, INPUT)
ONE_OF_EACH = [UNROLLED["remat"], STACKED["scan of remat"]]


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ONE_OF_EACH)
def test_capture_of_one_several_and_all_layers(model):
    asked = {"h": "all", at("h", layers=[2, 0]): None, at("h"): 3}
    out, found = jax.jit(capture(model, asked))(WEIGHTS, INPUT)
    close(out, untouched)
    for got, wanted in zip(
        (found[key] for key in asked), (jnp.stack(hidden), jnp.stack([hidden[2], hidden[0]]), hidden[3]), strict=True
    ):
        close(got, wanted)


@pytest.mark.parametrize("model", ONE_OF_EACH)
def test_putting_back_what_was_captured_changes_nothing(model):
    @jax.jit
    def function():
        _, found = capture(model, {"h": "all"})(WEIGHTS, INPUT)
        edits = {at("h", layers=layer): found["h"][layer] for layer in range(LAYERS)}
        return patch(model, edits)(WEIGHTS, INPUT)

    close(function(), untouched)


def test_disjoint_patches_in_any_order_and_two_of_one_site_in_the_order_given():
    first = (at("h", layers=0), lambda h: h + 1)
    second = (at("h", layers=2), lambda h: h * 2)
    third = (at("h", layers=2), lambda h: h + 5)
    apply = lambda *edits: jax.jit(patch(STACKED["scan"], edits))(WEIGHTS, INPUT)  # noqa: E731
    assert jnp.array_equal(apply(first, second), apply(second, first))
    close(apply(second, third), by_hand(WEIGHTS, INPUT, lambda n, h: h * 2 + 5 if n == 2 else h)[0])
    close(apply(third, second), by_hand(WEIGHTS, INPUT, lambda n, h: (h + 5) * 2 if n == 2 else h)[0])


def test_a_traced_layer_of_an_unrolled_model_is_patched_and_nan_where_there_is_none():
    model = UNROLLED["top"]
    sweep = jax.jit(jax.vmap(lambda n: patch(model, {at("h", layers=n): lambda h: h * 0.5})(WEIGHTS, INPUT)))
    found = sweep(jnp.arange(LAYERS + 1))
    for layer in range(LAYERS):
        close(found[layer], by_hand(WEIGHTS, INPUT, lambda n, h, layer=layer: h * 0.5 if n == layer else h)[0])
    assert jnp.isnan(found[LAYERS]).all()


@pytest.mark.parametrize("model", ONE_OF_EACH)
def test_a_split_is_the_value_and_the_rest_of_the_model(model):
    @jax.jit
    def function():
        value, rest = split(model, at("h", layers=1))(WEIGHTS, INPUT)
        several = jax.vmap(rest)(jnp.stack([value, value * 0]))
        return value, rest(value), several, jax.grad(lambda h: jnp.sum(rest(h) ** 2))(value)

    def replaced(h1):
        return by_hand(WEIGHTS, INPUT, lambda n, h: h1 if n == 1 else h)[0]

    value, out, several, gradient = function()
    close(value, hidden[1])
    close(out, untouched)
    close(several[1], replaced(hidden[1] * 0))
    close(gradient, jax.grad(lambda h: jnp.sum(replaced(h) ** 2))(hidden[1]))


def test_a_split_does_not_run_the_first_part_again():
    def model(x):
        return jnp.cos(tag("h", jnp.sin(x)))

    value, rest = split(model, "h")(INPUT)
    text = str(jax.make_jaxpr(rest)(value))
    assert "cos" in text
    assert "sin " not in text


def test_attribution_by_split_is_the_gradient_of_the_patched_model():
    model = STACKED["scan of remat"]

    def added(v):
        return jnp.sum(patch(model, {at("h", layers=2): lambda h: h + v})(WEIGHTS, INPUT))

    def by_split():
        value, rest = split(model, at("h", layers=2))(WEIGHTS, INPUT)
        return jax.grad(lambda h: jnp.sum(rest(h)))(value)

    close(jax.jit(by_split)(), jax.jit(jax.grad(added))(jnp.zeros(INPUT.shape)))


def doubly_nested(weights, x):
    """Two groups of two pairs: each layer is counted over three scans, one with a remat; and a scan of another tag."""

    def layer(x, w):
        return x + tag("h", jnp.tanh(x @ w)), None

    def pair(x, some):
        return jax.lax.scan(jax.checkpoint(layer), x, some)

    def group(x, some):
        return jax.lax.scan(pair, x, some)

    x, _ = jax.lax.scan(lambda x, w: (tag("other", x), None), x, weights[:3])
    return jax.lax.scan(group, x, weights.reshape(2, 2, 2, *weights.shape[1:]), reverse=True)[0]


@pytest.mark.parametrize("number", [0, 5, -1])
def test_a_split_in_nested_scans(number):
    weights = jnp.concatenate([WEIGHTS, WEIGHTS[::-1] / 2])

    @jax.jit
    def function():
        value, rest = split(doubly_nested, at("h", layers=number))(weights, INPUT)
        return value, rest(value), rest(value * 0.5), jax.grad(lambda h: jnp.sum(rest(h) ** 2))(value)

    order = [4, 5, 6, 7, 0, 1, 2, 3]  # the outermost scan runs backwards
    place = order.index(number % 8)

    def replaced(change):
        return by_hand(weights[jnp.array(order)], INPUT, lambda n, h: change(h) if n == place else h)

    out, seen = replaced(lambda h: h)
    value, same, halved, gradient = function()
    close(value, seen[place])
    close(same, out)
    close(halved, replaced(lambda h: h * 0.5)[0])
    close(gradient, jax.grad(lambda v: jnp.sum(replaced(lambda h: v)[0] ** 2))(seen[place]))


def test_a_split_leaves_a_shorter_scan_of_the_same_tag_at_another_path_alone():
    def model(weights, x):
        with jax.named_scope("short"):
            x = STACKED["scan"](weights[:2], x)
        with jax.named_scope("long"):
            return STACKED["scan"](weights, x)

    where = at("h", layers=3, path="long")
    value, rest = jax.jit(
        lambda: (lambda value, rest: (value, rest(value * 0)))(*split(model, where)(WEIGHTS, INPUT))
    )()
    before = by_hand(WEIGHTS[:2], INPUT)[0]
    close(value, by_hand(WEIGHTS, before)[1][3])
    close(rest, by_hand(WEIGHTS, before, lambda n, h: 0 * h if n == 3 else h)[0])


def test_the_table_of_sites():
    def model(weights, x):
        with jax.named_scope("stack"):
            x = STACKED["scan of remat"](weights, x)
        with jax.named_scope("head"):
            return tag("logits", {"a": x, "n": jnp.int32(1)})

    table = sites(model, WEIGHTS, INPUT)
    h, logits = table
    assert (h.name, h.path, h.layer, h.length, h.scope, h.shape) == ("h", "stack", None, LAYERS, "remat", (2, 3))
    assert (logits.path, logits.layer, logits.length, logits.scope) == ("head", 0, None, "top")
    assert logits.shape == {"a": (2, 3), "n": ()}
    assert h.source.split(":")[0].endswith("tiny_models.py")
    assert logits.source.startswith(__file__)
    lines = str(table).splitlines()
    assert lines[0].split() == ["name", "path", "layer", "scope", "shape", "dtype", "source"]
    assert "0..3" in lines[1]
    assert table.tree().splitlines()[:2] == ["stack/", "  h  float32[2, 3] x 4 layers"]
    assert [row.name for row in table.named("lo*")] == ["logits"]
    assert len(sites(UNROLLED["jit"], WEIGHTS, INPUT)) == LAYERS


def test_the_examples_of_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "jax.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert names["kept"].shape == (2, 2, 8)
    assert names["by_layer"].shape == (6, 2, 8)
    model, weights, x = (names[name] for name in ("model", "weights", "x"))
    (read,) = names["found"].values()
    assert read.shape == (2, 8)
    split_slope = jax.grad(lambda h: split(model, at("mlp", layers=3))(weights, x)[1](h).sum())
    close(names["slopes"][3], split_slope(names["value"]))
    one = names["at_position_1"]
    assert jnp.array_equal(one[0], model(weights, x)[0])
    close(one[1], names["all_of_it"][1])
