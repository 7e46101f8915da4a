"""Models of flax, haiku and equinox, with their own scans, remats and vmaps; the reference is the unrolled model."""

import pytest

pytest.importorskip("jax.numpy")

import jax
import jax.numpy as jnp
import numpy as np
from leaks import leakless

from gossamer.jax import at, capture, patch, sites, tag

X = jax.random.normal(jax.random.key(0), (2, 4))
EDITED, KEPT, LAYERS = 1, [2, 0], 3


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def instrumented(model):
    changed = patch(model, {at("h", layers=EDITED): lambda h: h * 0.5})
    return lambda params, x: (lambda out, found: (out, found["h"]))(*capture(changed, {"h": KEPT})(params, x))


def reference(layer_of, params, x):
    """`layer_of(params, layer, x)` is the hidden value of a layer."""
    seen = []
    for layer in range(LAYERS):
        h = layer_of(params, layer, x)
        h = h * 0.5 if layer == EDITED else h
        seen.append(h)
        x = x + h
    return x, jnp.stack([seen[layer] for layer in KEPT])


def check(model, layer_of, params):
    found = jax.jit(instrumented(model))(params, X)
    jax.tree.map(close, found, reference(layer_of, params, X))
    loss = lambda f: lambda p: sum(jnp.sum(leaf**2) for leaf in f(p, X))  # noqa: E731
    wanted = jax.jit(jax.grad(loss(lambda p, x: reference(layer_of, p, x))))(params)
    jax.tree.map(close, jax.jit(jax.grad(loss(instrumented(model))))(params), wanted)
    leakless(jax.grad(loss(instrumented(model))), params)


def test_flax_linen_scan_of_remat():
    nn = pytest.importorskip("flax.linen")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + tag("h", jnp.tanh(nn.Dense(4, name="dense")(x))), None

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            stack = nn.scan(nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)
            return stack(name="layers")(x, None)[0]

    net = Net()
    params = jax.jit(net.init)(jax.random.key(1), X)
    dense = lambda p: p["params"]["layers"]["dense"]  # noqa: E731
    check(net.apply, lambda p, n, x: jnp.tanh(x @ dense(p)["kernel"][n] + dense(p)["bias"][n]), params)
    (row,) = sites(net.apply, params, X)
    assert row.path.endswith("layers")
    assert row.length == LAYERS


def test_flax_nnx_scan():
    nnx = pytest.importorskip("flax.nnx")

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(4, 4, rngs=rngs)

    @nnx.split_rngs(splits=LAYERS)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def stacked(rngs):
        return Block(rngs)

    graph, params = nnx.split(stacked(nnx.Rngs(0)))

    def model(params, x):
        def layer(x, block):
            return x + tag("h", jnp.tanh(block.dense(x)))

        return nnx.scan(layer, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, nnx.merge(graph, params))

    kernel = lambda p: p["dense"]["kernel"][...]  # noqa: E731
    check(model, lambda p, n, x: jnp.tanh(x @ kernel(p)[n] + p["dense"]["bias"][...][n]), params)


def test_haiku_layer_stack():
    hk = pytest.importorskip("haiku")

    def net(x):
        def layer(x):
            return x + tag("h", jnp.tanh(hk.Linear(4, name="dense")(x)))

        return hk.experimental.layer_stack(LAYERS)(layer)(x)

    pure = hk.without_apply_rng(hk.transform(net))
    params = jax.jit(pure.init)(jax.random.key(1), X)
    (dense,) = params.values()
    assert dense["w"].shape == (LAYERS, 4, 4)

    def layer_of(p, n, x):
        (dense,) = p.values()
        return jnp.tanh(x @ dense["w"][n] + dense["b"][n])

    check(pure.apply, layer_of, params)


def test_equinox_modules_under_an_inner_vmap():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(1), LAYERS)
    layers = [eqx.nn.Linear(4, 4, key=key) for key in keys]

    def model(layers, x):
        for layer in layers:
            x = x + jax.vmap(lambda row, layer=layer: tag("h", jnp.tanh(layer(row))))(x)
        return x

    check(model, lambda p, n, x: jnp.tanh(x @ p[n].weight.T + p[n].bias), layers)
