"""A widget in a real JupyterLab, in a browser: it is drawn, its keys are its own, and the kernel answers it.

JupyterLab is not among the packages of the tests: GOSSAMER_JUPYTERLAB names the Python of an environment that has
jupyterlab, ipykernel and anywidget. Without it these tests are skipped.
"""

import json
import os
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CELLS = (
    "from gossamer.app import CircuitWidget\nwidget = CircuitWidget({run!r}, device='cpu')\nwidget",
    "print('pinned', len(widget.pinned), widget.place.startswith('#/circuit/circuit?pin='))",
    "from gossamer.app import PromptWidget\nPromptWidget({run!r}, 'The boys near', device='cpu')",
)


def notebook(cells):
    made = [
        {"cell_type": "code", "execution_count": None, "id": f"c{n}", "metadata": {}, "outputs": [], "source": text}
        for n, text in enumerate(cells)
    ]
    spec = {"display_name": "here", "language": "python", "name": "here"}
    return {"cells": made, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="module")
def lab(built, made, tmp_path_factory):
    """Address of a JupyterLab with a notebook on the run, whose kernel has this tree and its packages."""
    python = os.environ.get("GOSSAMER_JUPYTERLAB")
    if not python:
        pytest.skip("no JupyterLab: set GOSSAMER_JUPYTERLAB to the Python of an environment that has it")
    folder = tmp_path_factory.mktemp("lab")
    kernel = folder / "share" / "kernels" / "here"
    kernel.mkdir(parents=True)
    packages = os.pathsep.join([str(ROOT / "src"), sysconfig.get_path("purelib")])
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    facts = {"argv": argv, "display_name": "here", "language": "python", "env": {"PYTHONPATH": packages}}
    (kernel / "kernel.json").write_text(json.dumps(facts))
    cells = [text.format(run=str(made[0])) for text in CELLS]
    (folder / "work").mkdir()
    (folder / "work" / "one.ipynb").write_text(json.dumps(notebook(cells)))
    places = {name: str(folder / name) for name in ("config", "data", "runtime")}
    environment = {
        **os.environ,
        "JUPYTER_PATH": str(folder / "share"),
        **{f"JUPYTER_{name.upper()}_DIR": path for name, path in places.items()},
    }
    environment.pop("PYTHONPATH", None)
    command = [python, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.token=t", "--ServerApp.port=0"]
    command += [f"--ServerApp.root_dir={folder / 'work'}", "--LabApp.news_url=None", "--ServerApp.open_browser=False"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            for _ in range(600):
                found = list((folder / "runtime").glob("jpserver-*.json"))
                if found or server.poll() is not None:
                    break
                time.sleep(0.1)
            assert found, (folder / "log").read_text()
            yield json.loads(found[0].read_text())["url"]
        finally:
            server.terminate()
            server.wait(30)


def run_cell(page, number):
    """Run a cell; one that is run before its kernel is there is not run at all, and is run again."""
    cell = page.locator(".jp-Cell").nth(number)
    for _ in range(40):
        cell.locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(3000)
        if cell.locator(".jp-InputPrompt").inner_text().strip() != "[ ]:":
            return


@pytest.mark.slow
def test_a_circuit_is_a_widget_in_jupyterlab(lab, browser, made):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(120_000)
    outside, wrong = [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def alone(route):
        own = route.request.url.startswith((lab, "blob:", "data:"))
        if not own:
            outside.append(route.request.url)
        route.continue_() if own else route.abort()

    page.route("**/*", alone)
    page.goto(f"{lab}lab/tree/one.ipynb?token=t")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    run_cell(page, 0)
    page.wait_for_selector(".map-host button.box")
    assert page.locator(".map-host button.box:not(.metric)").count() == len(made[2].nodes)
    page.locator(".map-host button.box:not(.metric)").nth(0).click()
    page.wait_for_selector(".latent .examples")
    page.keyboard.press("p")
    page.wait_for_selector(".pinned h3:has-text('1 node pinned')")
    # The kernel loads the model and measures.
    page.wait_for_selector(".scores tr.ours")
    # Letters are keys of the view; none has deleted or moved a cell of the notebook.
    page.keyboard.press("d")
    page.keyboard.press("d")
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == len(CELLS)
    run_cell(page, 1)
    page.wait_for_selector("text=pinned 1 True")
    run_cell(page, 2)
    page.wait_for_selector(".strip")
    # Two widgets in one notebook: each has its own place.
    assert page.locator(".map-host").count() == 1
    page.locator(".sites a").first.click()
    page.wait_for_selector("h1:has-text('resid_post')")
    page.click("text=← Back")
    page.wait_for_selector(".strip")
    shot = os.environ.get("GOSSAMER_SCREENSHOT")
    if shot:
        page.screenshot(path=shot, full_page=True)
    page.close()
    assert wrong == []
    assert [url for url in outside if "jupyter" not in url] == []
