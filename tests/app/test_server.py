"""The server: on this machine alone, until it is stopped."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from gossamer.app.ports import PORT, listen
from gossamer.errors import UsageError


def viewing(*arguments):
    command = [sys.executable, "-c", "from gossamer.cli import run; run()", "view", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def asked(url, token=None):
    request = urllib.request.Request(url, headers={} if token is None else {"X-Gossamer-Token": token})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def test_it_serves_until_it_is_stopped(built, run):
    process = viewing(run, "--no-browser", "--port", 0, "--json")
    try:
        said = ""
        while "}" not in said:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        found = json.loads(said)
        assert found["folder"] == str(run)
        assert found["read_only"] is None
        address, token = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#token=([\w-]+)", found["url"]).groups()
        assert b"<title>gossamer</title>" in asked(f"{address}/")
        assert json.loads(asked(f"{address}/api/v1/run", token))["run"] == "run"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            asked(f"{address}/api/v1/run", "guess")
        # A second one on the same run and port.
        port = int(address.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"port {port}: cannot be used"):
            listen(port)
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in rest[1]
    assert "closed" in rest[1]


def test_only_this_machine_can_ask():
    found = listen(0)
    assert found.getsockname()[0] == "127.0.0.1"
    found.close()


def test_a_taken_default_port_is_passed_over():
    held = socket.socket()
    try:
        held.bind(("127.0.0.1", PORT))
        held.listen()
    except OSError:
        pass  # somebody holds it already, which is as good
    found = listen(None)
    assert found.getsockname()[1] in range(PORT + 1, PORT + 20)
    found.close()
    held.close()
