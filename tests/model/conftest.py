"""Every family in turn, and tokens for it."""

import pytest
from tiny_families import CONFIGS, random_tokens, shared_model


@pytest.fixture(scope="session", params=list(CONFIGS))
def model(request):
    """Shared by all tests of a session, which leave it as they find it."""
    return shared_model(request.param)


@pytest.fixture
def tokens():
    return random_tokens()
