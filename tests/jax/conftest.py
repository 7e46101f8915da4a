"""Fixtures of the JAX room: every test must leave the thread as it found it."""

import gc
from importlib.util import find_spec

import pytest

# Without JAX this very folder would be found as `jax`: its tests are then left out.
collect_ignore_glob = [] if find_spec("jaxlib") else ["*"]

if find_spec("jaxlib"):
    import quick_xla

    quick_xla.set_up()


@pytest.fixture(scope="package", autouse=True)
def small_heap():
    """What is in memory before these tests is not searched by them: garbage collection is quick."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def smaller_heap(small_heap):
    """Nor what is there before this file, for tests that search the heap many times."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def greenlets(monkeypatch):
    """Every greenlet that a run opens in this test, as long as it lives."""
    import weakref
    from types import SimpleNamespace

    import greenlet

    from gossamer.jax import driver

    found = weakref.WeakSet()

    class Noted(greenlet.greenlet):
        def __init__(self, *args):
            super().__init__(*args)
            found.add(self)

    monkeypatch.setattr(driver, "greenlet", SimpleNamespace(greenlet=Noted, getcurrent=greenlet.getcurrent))
    return found


@pytest.fixture(autouse=True)
def tidy_thread(greenlets):
    """No trace, no configuration and no greenlet is left behind."""
    import jax

    from gossamer.jax import compat

    before = {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_matmul_precision")}
    yield
    assert compat.is_eager(compat.current_trace())
    assert {name: getattr(jax.config, name) for name in before} == before
    assert not waiting(greenlets)


def waiting(greenlets):
    """Those that stand in the middle of something, and are not merely not collected yet."""
    if any(greenlets):
        gc.collect()
    return [one for one in greenlets if one]
