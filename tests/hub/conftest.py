"""A hub of this machine, and its client in a process of its own: the client reads its address when it is imported."""

import os
import subprocess
import sys

import pytest
from loopback_hub import loopback_hub


@pytest.fixture
def hub():
    with loopback_hub() as found:
        yield found


@pytest.fixture
def python(hub, tmp_path):
    """Runs a script that talks to the hub; gives back what it printed."""

    def run(script, token="hf_a-token"):
        told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | told
        if token is not None:
            environment["HF_TOKEN"] = token
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
