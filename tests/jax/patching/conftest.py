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
def nothing_in_force(tidy_thread):
    """No patch is left behind."""
    from gossamer.jax.patching.active import in_force

    yield
    assert in_force() == ()


@pytest.fixture
def heard():
    """All tags reached in this test."""
    from gossamer.jax.tag import LISTENING

    LISTENING.listener = heard = Heard()
    yield heard
    LISTENING.listener = None
