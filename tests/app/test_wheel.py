"""What users install: the wheel made of the sdist, in an environment without Node and network, shows its page."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parents[2]
# Whatever leaves this machine is an error of the process that tried.
ALONE = """
import socket
_connect = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"left this machine: {address}")
    return _connect(self, address)
socket.socket.connect = connect
"""
BUILD = "import sys; sys.path.insert(0, 'build_backend'); import gossamer_build as b; print(b.{}(sys.argv[1]))"


def built_by(what, source, folder, environment):
    """Run a hook of the build backend in a source tree; the path of what it made."""
    program = [sys.executable, "-c", BUILD.format(what), str(folder)]
    done = subprocess.run(program, cwd=source, env=environment, capture_output=True, text=True, check=True)
    return Path(folder) / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The environment of a process without Node: no program is found beside those that are named whole."""
    empty = tmp_path_factory.mktemp("empty")
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")}
    return {**kept, "PATH": str(empty), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def wheel(built, tmp_path_factory, bare):
    """The wheel of the sdist of this tree."""
    folder = tmp_path_factory.mktemp("packed")
    sdist = built_by("build_sdist", ROOT, folder, dict(os.environ))
    with tarfile.open(sdist) as packed:
        packed.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return built_by("build_wheel", source, folder, bare)


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory, bare):
    """`gossamer` of an environment of its own; the packages that it needs are those of this one, itself is not."""
    folder = tmp_path_factory.mktemp("clean") / "env"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", wheel],
        env={**bare, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=True,
    )
    # A path alone: editable packages of this environment, such as this tree, are not followed.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "sitecustomize.py").write_text(ALONE)
    where = [python, "-c", "import gossamer; print(gossamer.__file__)"]
    found = subprocess.run(where, env=bare, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(folder)
    return folder / "bin" / "gossamer"


@pytest.mark.slow
def test_the_wheel_holds_the_built_page_and_not_its_sources(wheel):
    listed = [sys.executable, "-m", "zipfile", "-l", wheel]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    assert "gossamer/app/static/index.html" in names
    assert "gossamer/app/static/bundle.js" in names
    assert "gossamer/app/web/" not in names
    assert "node_modules" not in names


@pytest.mark.slow
def test_the_page_loads_without_node_and_network(program, bare, made, browser):
    server = subprocess.Popen(
        [program, "view", made[0], "--no-browser", "--json", "--port", "0"],
        env=bare,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    left, wrong = [], []

    def alone(route):
        if route.request.url.startswith("http://127.0.0.1:"):
            route.continue_()
        else:
            left.append(route.request.url)
            route.abort()

    page = browser.new_page()
    try:
        said = ""
        while not said.endswith("}\n"):
            line = server.stdout.readline()
            assert line, server.stderr.read()
            said += line
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.route("**/*", alone)
        page.goto(json.loads(said)["url"])
        page.click("nav[aria-label='Views'] >> text=Circuit", timeout=60_000)
        page.wait_for_selector(".map-host button.box")
        assert page.locator(".map-host button.box:not(.metric)").count() == len(made[2].nodes)
        page.locator(".map-host button.box:not(.metric)").nth(0).click()
        page.keyboard.press("p")
        page.wait_for_selector(".scores", timeout=120_000)
    finally:
        page.close()
        server.terminate()
        _, complained = server.communicate(timeout=30)
    assert (left, wrong) == ([], [])
    assert "Traceback" not in complained


@pytest.mark.slow
def test_a_page_is_exported_without_node(program, bare, made, tmp_path):
    done = subprocess.run(
        [program, "view", made[0], "--export", tmp_path / "page.html"],
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "opens without a server" in done.stdout
    assert (tmp_path / "page.html").stat().st_size > 100_000
