"""What patched code tells: every tag that is reached, with its value, while the model's Python runs."""

import pytest


class Heard(list):
    """Pairs (name, value) in the order of execution; `answers` puts other values in the place of some."""

    def __init__(self):
        super().__init__()
        self.answers = {}

    def __call__(self, name, value):
        self.append((name, value))
        return self.answers.get(name, lambda x: x)(value)


@pytest.fixture(autouse=True)
def tidy_thread(leak_checking):
    """No patch and no trace is left behind. Most of these tests open no greenlet: none is looked for."""
    from gossamer.jax import compat
    from gossamer.jax.patching.active import in_force

    yield
    assert in_force() == ()
    assert compat.is_eager(compat.current_trace())


@pytest.fixture
def heard():
    """All tags reached in this test."""
    from gossamer.jax.tag import LISTENING

    LISTENING.listener = heard = Heard()
    yield heard
    LISTENING.listener = None
