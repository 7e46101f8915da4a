"""Fixtures of the JAX room: every test runs under JAX's leak checker, and must leave the thread as it found it."""

import gc
from importlib.util import find_spec

import pytest

# Without JAX this very folder would be found as `jax`: its tests are then left out.
collect_ignore_glob = [] if find_spec("jaxlib") else ["*"]


@pytest.fixture(scope="package", autouse=True)
def small_heap():
    """What the tests before these left in memory is not searched after each of these."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def leak_checking():
    import jax

    with jax.checking_leaks():
        yield


@pytest.fixture(autouse=True)
def tidy_thread(leak_checking):
    """No trace, no configuration and no greenlet is left behind."""
    import jax

    from gossamer.jax import compat

    before = {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_matmul_precision")}
    yield
    assert compat.is_eager(compat.current_trace())
    assert {name: getattr(jax.config, name) for name in before} == before
    assert not waiting_greenlets()


def waiting_greenlets():
    """Greenlets that stand in the middle of something."""
    import greenlet

    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, greenlet.greenlet) and one and one.parent is not None]
