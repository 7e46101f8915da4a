"""Fixtures; the place of this file makes the helpers of this folder importable from the folders in it."""

import pytest
from encoders import LATENTS

from gossamer.sparse import screen


@pytest.fixture(params=["float32", "bounds", "bounds, few tokens at a time"])
def way(request, monkeypatch):
    """Every way in which a CPU can look for large pre-activations; all have products in bfloat16, only slower ones."""
    monkeypatch.setattr(screen, "_PAYS", 0)
    monkeypatch.setattr(screen, "multiplies_in_bfloat16", lambda: request.param != "float32")
    if request.param.endswith("time"):
        monkeypatch.setattr(screen, "CHUNK", 16 * LATENTS)
