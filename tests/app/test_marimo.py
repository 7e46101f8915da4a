"""The widgets in a real marimo notebook, in a browser: each is drawn, and the notebook's process answers it.

marimo is not among the packages of the tests: GOSSAMER_MARIMO names the Python of an environment that has marimo and
anywidget. Without it these tests are skipped.
"""

import os
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gossamer import DictionarySet, LanguageModel
from gossamer.app.ports import listen
from gossamer.attention import Limits, Question, attribution_data

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    from gossamer.app import AttentionWidget, CircuitWidget, LatentWidget, PromptWidget

    return AttentionWidget, CircuitWidget, LatentWidget, PromptWidget


@app.cell
def _(CircuitWidget):
    import marimo as mo

    circuit = mo.ui.anywidget(CircuitWidget({run!r}, device="cpu"))
    circuit
    return circuit, mo


@app.cell
def _(circuit, mo):
    mo.md(f"pinned: {{len(circuit.value['marks']['pinned'])}}")
    return


@app.cell
def _(PromptWidget):
    PromptWidget({run!r}, "The boys near", device="cpu")
    return


@app.cell
def _(LatentWidget):
    LatentWidget({run!r}, {feature!r}, device="cpu")
    return


@app.cell
def _(AttentionWidget):
    AttentionWidget({attention!r})
    return


if __name__ == "__main__":
    app.run()
"""


@pytest.fixture(scope="module")
def notebook(built, made, tmp_path_factory):
    """Address of a notebook that marimo runs with this tree and its packages."""
    python = os.environ.get("GOSSAMER_MARIMO")
    if not python:
        pytest.skip("no marimo: set GOSSAMER_MARIMO to the Python of an environment that has it")
    folder = tmp_path_factory.mktemp("marimo")
    (folder / "attention").mkdir()
    model, dictionaries = LanguageModel.load("bundled:spool", device="cpu"), DictionarySet.load("bundled:spool")
    asked = [Question("The boys near the dog", " are", " is")]
    attribution_data(model, dictionaries, asked, limits=Limits(latents=4, terms=16, scores=16)).save(
        folder / "attention" / "explore.json"
    )
    facts = {"run": str(made[0]), "feature": str(made[2].nodes[0].node.feature), "attention": str(folder / "attention")}
    (folder / "one.py").write_text(NOTEBOOK.format(**facts))
    socket = listen(0)
    port = socket.getsockname()[1]
    socket.close()
    packages = os.pathsep.join([str(ROOT / "src"), sysconfig.get_path("purelib")])
    environment = {**os.environ, "PYTHONPATH": packages, "XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    command = [python, "-m", "marimo", "run", str(folder / "one.py"), "--headless", "--no-token", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}/"
            for _ in range(600):
                try:
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                except (urllib.error.URLError, OSError):
                    assert server.poll() is None, (folder / "log").read_text()
                    time.sleep(0.2)
            yield address, folder / "log"
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.slow
def test_all_widgets_are_drawn_and_answered_in_marimo(notebook, browser, made):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(120_000)
    address, log = notebook
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.route("**/*", lambda route: route.continue_() if _own(route.request.url, address) else route.abort())
    page.goto(address)
    # The kernel imports torch first.
    page.wait_for_selector(".map-host button.box", timeout=300_000)
    assert page.locator(".map-host button.box:not(.metric)").count() == len(made[2].nodes)
    page.locator(".map-host button.box:not(.metric)").nth(0).click()
    page.wait_for_selector(".latent .examples")
    page.keyboard.press("p")
    page.wait_for_selector(".pinned h3:has-text('1 node pinned')")
    # The notebook's process loads the model and measures, and the state is there for other cells.
    page.wait_for_selector(".scores tr.ours")
    page.wait_for_selector("text=pinned: 1")
    # Each of the others has its own place.
    page.wait_for_selector(".strip")
    page.wait_for_selector(f"h1:has-text('{made[2].nodes[0].node.feature}')")
    page.wait_for_selector("h1:has-text('How information moved'), #terms")
    shot = os.environ.get("GOSSAMER_SCREENSHOT")
    if shot:
        page.screenshot(path=shot, full_page=True)
    page.close()
    assert wrong == [], log.read_text()


def _own(url, address):
    return url.startswith((address, address.replace("http", "ws"), "blob:", "data:"))
