"""Tags: the identity, free of cost, for any tree, in every transformation."""

import pytest

pytest.importorskip("jax.numpy")

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import tiny_models
from tiny_models import INPUT, PLACES, WEIGHTS

from gossamer.jax import run, tag


def lowered(function, *args):
    return jax.jit(function).lower(*args).as_text()


TRANSFORMS = {
    "grad": lambda f: jax.grad(lambda w, x: jnp.sum(f(w, x))),
    "vmap of the last axis": lambda f: jax.vmap(lambda w, x: f(w, x[None]), (None, 0)),
    "remat": lambda f: jax.grad(jax.checkpoint(lambda w, x: jnp.sum(f(w, x)))),
}


CASES = [*((place, "plain") for place in PLACES), *((one, t) for one in ("jit", "scan of remat") for t in TRANSFORMS)]


@pytest.mark.parametrize(("place", "transform"), CASES)
def test_the_compiled_program_is_that_of_the_untagged_model(place, transform, monkeypatch):
    change = TRANSFORMS.get(transform, lambda f: f)
    tagged = lowered(change(lambda w, x: PLACES[place](w, x)), WEIGHTS, INPUT)
    jax.clear_caches()
    monkeypatch.setattr(tiny_models, "tag", lambda name, x: x)
    assert lowered(change(lambda w, x: PLACES[place](w, x)), WEIGHTS, INPUT) == tagged
    jax.clear_caches()


def test_a_deep_model_too():
    weights = jnp.ones((48, 4, 4))
    deep = lambda w, x, t: jax.lax.scan(lambda x, w: (x + t("h", x @ w), None), x, w)[0]  # noqa: E731
    texts = [lowered(lambda w, x, t=t: deep(w, x, t), weights, jnp.ones((2, 4))) for t in (tag, lambda _, x: x)]
    assert texts[0] == texts[1]


def test_axes_of_inner_vmaps_come_first_and_go_back():
    def head(x, y):
        return tag("h", {"x": x * 2, "y": y}), None

    def model(x, y):
        inner = jax.vmap(lambda x, y: head(x, y)[0], in_axes=(1, None))
        return jax.vmap(inner, in_axes=(2, 0), out_axes=1)(x, y)

    x, y = jax.random.normal(jax.random.key(2), (2, 3, 4)), jnp.arange(4.0)
    with run(model, x, y) as r:
        site = r.until("h")
        np.testing.assert_allclose(site.value["x"], x.transpose(2, 1, 0) * 2)
        assert site.value["y"].shape == (4,)
        site.set({"x": site.value["x"] + y[:, None, None], "y": site.value["y"]})
    plain = model(x, y)
    np.testing.assert_allclose(r.result["x"], plain["x"] + y[None, :, None])


def test_one_vmap_in_another_both_of_first_axes():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    with run(jax.vmap(jax.vmap(lambda x: tag("h", x * 2) + 1)), x) as r:
        site = r.until("h")
        np.testing.assert_allclose(site.value, x * 2)
        site.set(site.value + jnp.arange(2.0)[:, None, None] + 10 * jnp.arange(3.0)[:, None])
    np.testing.assert_allclose(r.result, x * 2 + 1 + jnp.arange(2.0)[:, None, None] + 10 * jnp.arange(3.0)[:, None])


def test_what_is_no_array_stays_what_it_is():
    value = {"array": np.ones(2), "number": 2, "text": "x", "none": None}
    out = tag("h", value)
    assert out["number"] is value["number"]
    assert out["text"] == "x"
    assert tag("h", {"n": 1}) == {"n": 1}
    with run(lambda x: tag("h", {"x": x, "n": 2})["x"] * 3, INPUT) as r:
        assert r.until("h").value.keys() == {"x", "n"}


def test_a_tag_whose_result_is_thrown_away_is_seen():
    def model(x):
        tag("h", x * 2)
        return x

    with run(jax.jit(model), INPUT) as r:
        np.testing.assert_allclose(r.until("h").value, INPUT * 2)


def test_keys_and_integers():
    def model(key, n):
        return jax.random.normal(tag("key", key), (2,)) * tag("n", n)

    with run(model, jax.random.key(0), jnp.int32(3)) as r:
        r.until("key").set(jax.random.key(1))
        r.until("n").edit(lambda n: n + 1)
    np.testing.assert_allclose(r.result, jax.random.normal(jax.random.key(1), (2,)) * 4)


def test_the_room_needs_neither_torch_nor_private_parts_of_jax():
    code = (
        "import sys, gossamer.jax as room\n"
        "from gossamer.jax import live\n"
        "assert not {name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'flax', 'haiku'}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_staged_runs_import_nothing_private_of_jax():
    from pathlib import Path

    import gossamer.jax

    folder = Path(gossamer.jax.__file__).parent
    private = [file.name for file in folder.glob("*.py") if "jax._src" in file.read_text()]
    assert private == ["thread_state.py"]
