"""Attention in four libraries, as they are installed: patterns read, and edit, the weights of chosen layers."""

import re
from importlib import metadata
from pathlib import Path

import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp
import numpy as np
from leaks import leakless

from gossamer.jax import run
from gossamer.jax.errors import TagNotReached
from gossamer.jax.patching import Patch, tag_assign, tag_expr, tag_return

LAYERS, HEADS, TOKENS, WIDTH = 6, 4, 5, 16
# What was installed when these patches were written: a function that has changed since deserves a look at `places()`.
PINNED = {
    "equinox.nn._attention:dot_product_attention_weights": ("equinox", "0.13.8", "1b06cba72e3b800b"),
    "flax.linen.attention:dot_product_attention_weights": ("flax", "0.12.8", "8a4c67abeaa1b139"),
    "flax.nnx.nn.attention:dot_product_attention_weights": ("flax", "0.12.8", "90aac05e42bdae87"),
    "haiku._src.attention:MultiHeadAttention.__call__": ("dm-haiku", "0.0.17", "f5503eaba274e8dc"),
}
KEY = jax.random.key(0)


def stream(*shape):
    return jax.random.normal(jax.random.key(1), shape)


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def edited_and_saved(model, *args, edit, layers, saved, name="probs"):
    """The output with the tag edited at some layers, and its values at others."""
    with run(model, *args) as r:
        site = r.until(name)
        kept = site.save(layers=saved)
        site.edit(edit, layers=layers)
    return r.result, kept.value


def uniform(probs):
    return jnp.full_like(probs, 1 / TOKENS)


@pytest.mark.parametrize(("target", "package", "version", "digest"), [(t, *facts) for t, facts in PINNED.items()])
def test_sources_are_those_that_were_pinned(target, package, version, digest):
    pytest.importorskip(target.partition(".")[0])
    if metadata.version(package) != version:
        pytest.skip(f"{package} {metadata.version(package)} is installed, the hash is of {version}")
    edits = [tag_return("out")]
    assert list(Patch({target: edits}).hashes().values()) == [digest]
    assert len(Patch({target: edits}, source_hash=Patch({target: edits}).hashes()).places()) == 1


class TestEquinox:
    """`MultiheadAttention` maps over heads inside: the tag is seen once, with the heads in front."""

    @pytest.fixture
    def patch(self):
        pytest.importorskip("equinox")
        from equinox.nn import _attention

        weights = tag_expr("jax.nn.softmax($...a).astype($_)", "probs")
        return Patch({_attention.dot_product_attention_weights: [weights]})

    def test_probabilities_are_read_and_a_head_knocked_out(self, patch):
        import equinox as eqx

        attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=KEY)  # built before the patch
        x = stream(TOKENS, WIDTH)
        jitted = eqx.filter_jit(lambda model, x: model(x, x, x))
        plain = jitted(attention, x)

        @jax.jit
        def knocked_out(x):
            with run(lambda x: attention(x, x, x), x) as r:
                site = r.until("probs")
                probs = site.value
                site.set(probs.at[1].set(0))
            return r.result, probs

        with patch:
            result, probs = knocked_out(x)
            leakless(knocked_out, x)
            close(jitted(attention, x), plain)
        q = (x @ attention.query_proj.weight.T).reshape(TOKENS, HEADS, -1)
        k = (x @ attention.key_proj.weight.T).reshape(TOKENS, HEADS, -1)
        v = (x @ attention.value_proj.weight.T).reshape(TOKENS, HEADS, -1)
        expected = jax.nn.softmax(jnp.einsum("shd,Shd->hsS", q, k) / np.sqrt(WIDTH / HEADS))
        close(probs, expected)
        z = jnp.einsum("hsS,Shd->shd", expected.at[1].set(0), v).reshape(TOKENS, WIDTH)
        close(result, z @ attention.output_proj.weight.T)
        close(jitted(attention, x), plain)


def test_the_examples_of_the_docs(capsys):
    pytest.importorskip("equinox")
    page = (Path(__file__).parents[3] / "docs" / "jax_patching.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    attention, x, found = names["attention"], names["x"], names["found"]
    q, k, v = (
        (x @ proj.weight.T).reshape(5, 4, 4)
        for proj in (attention.query_proj, attention.key_proj, attention.value_proj)
    )
    probs = jax.nn.softmax(jnp.einsum("shd,Shd->hsS", q, k) / 2)
    z = jnp.einsum("hsS,Shd->shd", probs, v)
    close(found["heads"], z)
    out = z.reshape(5, 16) @ attention.output_proj.weight.T
    close(attention(x, x, x), out)
    close(names["out"], out / 2)
    close(found["out"], out / 2)
    close(names["result"], z.at[:, 1].set(0).reshape(5, 16) @ attention.output_proj.weight.T)
    assert "    attn = tag('heads', attn)\n" in capsys.readouterr().out


class TestLinen:
    """Attention of flax linen under `nn.scan(nn.remat(Block))`: the model's layers are one traced body."""

    @pytest.fixture
    def models(self):
        nn = pytest.importorskip("flax.linen")

        class Block(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                h = nn.LayerNorm()(x)
                return x + nn.MultiHeadDotProductAttention(HEADS)(h, h), None

        class Stacked(nn.Module):
            @nn.compact
            def __call__(self, x):
                layers = nn.scan(
                    nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS
                )
                return layers(name="layers")(x, None)[0]

        return Block(), Stacked()

    @pytest.fixture
    def patch(self):
        target = "flax.linen.attention:dot_product_attention_weights"
        return Patch({target: [tag_assign("attn_weights", "probs", index=-2)]})

    @staticmethod
    def reference(block, params, x, edits):
        """The layers one by one, with the same patch heard in plain Python."""
        from gossamer.jax.tag import LISTENING

        seen = []
        for layer in range(LAYERS):
            one = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["params"]["layers"])

            def listener(name, value, layer=layer):
                seen.append(value)
                return edits.get(layer, lambda v: v)(value)

            LISTENING.listener = listener
            try:
                x, _ = block.apply({"params": one}, x, None)
            finally:
                LISTENING.listener = None
        return x, jnp.stack(seen)

    def test_scanned_layers_equal_the_layers_one_by_one(self, models, patch):
        block, model = models
        x = stream(2, TOKENS, WIDTH)
        params = model.init(KEY, x)
        plain = jax.jit(model.apply)(params, x)
        with patch:
            expected, probs = self.reference(block, params, x, {3: uniform})
            work = jax.jit(lambda p, x: edited_and_saved(model.apply, p, x, edit=uniform, layers=[3], saved=[2, 5]))
            result, kept = work(params, x)
            leakless(work, params, x)
            close(jax.jit(model.apply)(params, x), plain)
        close(result, expected)
        close(kept, probs[jnp.array([2, 5])])
        assert kept.shape == (2, 2, HEADS, TOKENS, TOKENS)
        assert not np.allclose(result, plain)

    def test_a_sweep_over_all_layers_is_one_trace(self, models, patch):
        _, model = models
        x = stream(1, TOKENS, WIDTH)
        params = model.init(KEY, x)
        traces = []

        @jax.jit
        def at(layer):
            traces.append("traced")
            return edited_and_saved(model.apply, params, x, edit=uniform, layers=layer, saved=0)[0]

        with patch:
            swept = [at(layer) for layer in range(LAYERS)]
            fixed = jax.jit(lambda: edited_and_saved(model.apply, params, x, edit=uniform, layers=[4], saved=0)[0])()
        assert len(traces) == 1
        close(swept[4], fixed)

    def test_gradients_go_through_a_patched_scan_with_remat(self, models, patch):
        block, model = models
        x = stream(1, TOKENS, WIDTH)
        params = model.init(KEY, x)

        def loss(scale):
            edit = lambda probs: probs * scale  # noqa: E731
            return edited_and_saved(model.apply, params, x, edit=edit, layers=[1], saved=0)[0].sum()

        with patch:
            slope = jax.jit(jax.grad(loss))(1.0)
            leakless(jax.grad(loss), 1.0)
            step = 1e-2
            up, down = (self.reference(block, params, x, {1: lambda p, s=1 + d: p * s})[0].sum() for d in (step, -step))
        np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=2e-3)


class TestNnx:
    """flax nnx computes weights itself only where it must: without dropout or sow it calls a fused attention."""

    @pytest.fixture
    def attention(self):
        nnx = pytest.importorskip("flax.nnx")
        return nnx.MultiHeadAttention(
            HEADS, WIDTH, decode=False, dropout_rate=0.1, deterministic=True, rngs=nnx.Rngs(0)
        )

    @pytest.fixture
    def patch(self):
        target = "flax.nnx.nn.attention:dot_product_attention_weights"
        return Patch({target: [tag_expr("jax.nn.softmax(attn_weights).astype(dtype)", "probs", count=None)]})

    @staticmethod
    def functional(module):
        from flax import nnx

        graph, state = nnx.split(module)
        return (lambda state, x: nnx.merge(graph, state)(x)), state

    def test_probabilities_are_read_and_written(self, attention, patch):
        model, state = self.functional(attention)
        x = stream(2, TOKENS, WIDTH)
        with patch, run(model, state, x) as r:
            site = r.until("probs")
            probs = site.value
            site.edit(uniform)
        close(probs.sum(-1), jnp.ones((2, HEADS, TOKENS)))
        value = attention.value(x)
        z = jnp.broadcast_to(value.mean(1, keepdims=True), value.shape)
        close(r.result, attention.out(z))

    def test_a_patched_line_that_is_not_executed_is_named(self, attention, patch):
        attention.dropout_rate = 0.0
        model, state = self.functional(attention)
        says = r"patched in at attention.py:\d+ in flax.nnx.nn.attention.dot_product_attention_weights .*not executed"
        with patch, pytest.raises(TagNotReached, match=says), run(model, state, stream(2, TOKENS, WIDTH)) as r:
            r.until("probs")


class TestHaiku:
    """`MultiHeadAttention` inside `hk.experimental.layer_stack`, which scans."""

    def test_stacked_layers(self):
        hk = pytest.importorskip("haiku")

        def block(x):
            init = hk.initializers.VarianceScaling(1.0)
            return x + hk.MultiHeadAttention(HEADS, WIDTH // HEADS, w_init=init, model_size=WIDTH)(x, x, x)

        def stacked(x):
            return hk.experimental.layer_stack(LAYERS)(block)(x)

        model = hk.without_apply_rng(hk.transform(stacked))
        one = hk.without_apply_rng(hk.transform(block))
        x = stream(1, TOKENS, WIDTH)
        params = model.init(KEY, x)
        edits = [tag_assign("attn_weights", "probs"), tag_return("attn_out")]
        with Patch({hk.MultiHeadAttention.__call__: edits}):
            work = jax.jit(lambda p, x: edited_and_saved(model.apply, p, x, edit=uniform, layers=[3], saved=[2, 5]))
            result, kept = work(params, x)
            leakless(work, params, x)
            expected, probs = x, []
            for layer in range(LAYERS):
                inner = {
                    name[name.index("multi_head_attention") :]: {key: leaf[layer] for key, leaf in leaves.items()}
                    for name, leaves in params.items()
                }
                with run(one.apply, inner, expected) as r:
                    site = r.until("probs")
                    probs.append(site.value)
                    if layer == 3:
                        site.edit(uniform)
                expected = r.result
        close(result, expected)
        close(kept, jnp.stack([probs[2], probs[5]]))
