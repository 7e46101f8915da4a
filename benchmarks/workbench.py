"""The workbench beside its budgets: bytes of the first load, seconds to the first view, milliseconds of an answer.

    python benchmarks/workbench.py [--run FOLDER] [--quick] [--json]

A server of the run and the machine's own Chromium, without a window; what else runs on the machine counts. Without
--run a circuit is found in the bundled model first.

- First load: the page's HTML and the files that it names, packed by gzip.
- First view: from the request of the page to a circuit's map with its boxes, median of five new tabs; the same of the
  page in one file, opened from the disk.
- Answers: from the question to the whole answer, median of 20, by HTTP.
- Memory: of the server once its model was asked, beside a process with the restored circuit alone.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rows import Row, parser, row, say, show

FIRST_LOAD, FIRST_VIEW, ANSWER, PAGE, MEMORY = 250, 1.5, 200, 10, 1.5
TABS, TIMES = 5, 20


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "a circuit of 12 nodes, found in few steps")
    made.add_argument("--run", type=Path, help="the folder of a run that holds a circuit; default: one is made")
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(rows(options, Path(folder)), options.json)


def rows(options: argparse.Namespace, folder: Path) -> list[Row]:
    """All of them."""
    from gossamer.app.exported_page import export_page
    from gossamer.app.page import STATIC, build

    build()
    run = options.run or circuit_run(folder / "run", quick=options.quick, as_json=options.json)
    first = first_load(STATIC)
    exported = export_page(run, folder / "page.html")
    size, whole = exported.bytes / 1e6, exported.page == folder / "page.html"
    found = [
        row("first load, gzip", first, FIRST_LOAD, "kB", f"<= {FIRST_LOAD} kB", first <= FIRST_LOAD),
        row(
            "exported page",
            size,
            PAGE,
            "MB",
            f"<= {PAGE} MB in one file",
            size <= PAGE or not whole,
        ),
    ]
    with server(run) as (url, ask, process):
        known = json.loads(ask("/api/v1/run"))
        circuit = next(part["id"] for part in known["parts"] if part["kind"] == "circuit")
        views = {"first view, server": f"{url}&/circuit/{circuit}"}
        views["first view, exported page"] = f"{exported.page.as_uri()}#/circuit/{circuit}"
        found += [
            row(what, seconds, FIRST_VIEW, "s", f"<= {FIRST_VIEW} s on 2 cores", seconds <= FIRST_VIEW)
            for what, seconds in first_views(views).items()
        ]
        page = json.loads(ask(f"/api/v1/circuits/{circuit}"))
        node = page["map"]["nodes"][0]["id"]
        for what, path in (
            ("answer: circuit", f"/api/v1/circuits/{circuit}"),
            ("answer: a node's card", f"/api/v1/circuits/{circuit}/nodes?name={node}"),
            ("answer: a latent's page", f"/api/v1/dicts/{circuit}/latent?feature={node.partition('@')[0]}"),
        ):
            taken = milliseconds(lambda path=path: ask(path))
            found.append(row(what, taken, ANSWER, "ms", f"<= {ANSWER} ms", taken <= ANSWER))
        own, alone = resident(process.pid), resident_with_model(run / "circuit.json")
        found.append(row("memory of the server", own, alone, "MB", f"<= x{MEMORY} of the model", own <= MEMORY * alone))
    return found


def circuit_run(folder: Path, *, quick: bool, as_json: bool) -> Path:
    """A run with a circuit of the bundled model."""
    size = ["--size", "12", "--steps", "20", "--compare", "none", "--reruns", "0"] if quick else ["--size", "50"]
    command = [sys.executable, "-m", "gossamer", "circuit", "bundled:spool", "--task", "sva-simple", "--out", folder]
    say("finding a circuit in the bundled model ...", as_json)
    subprocess.run([*command, *size], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def first_load(static: Path) -> float:
    """kB of what a new tab asks for before anything is drawn."""
    html = (static / "index.html").read_text(encoding="utf-8")
    named = [path for path in static.rglob("*") if path.is_file() and path.name in (html + "index.html")]
    return sum(len(gzip.compress(path.read_bytes())) for path in named) / 1000


@contextmanager
def server(run: Path) -> Iterator[tuple[str, Callable[[str], bytes], "subprocess.Popen[str]"]]:
    """A server of the run in a process of its own: its address, how it is asked, and the process."""
    command = [sys.executable, "-m", "gossamer", "view", run, "--no-browser", "--json", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit("gossamer view ended before it served")
            said += line
        url = json.loads(said)["url"]
        base, _, token = url.partition("/#token=")

        def ask(path: str) -> bytes:
            asked = urllib.request.Request(base + path, headers={"X-Gossamer-Token": token})
            with urllib.request.urlopen(asked) as answer:
                return answer.read()

        yield url, ask, process
    finally:
        process.terminate()
        process.wait(30)


def first_views(addresses: dict[str, str]) -> dict[str, float]:
    """Seconds until a map stands in a new tab, by what was opened."""
    import shutil

    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("a Chromium expected on PATH, found none")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        found = {what: statistics.median(opened(browser, url) for _ in range(TABS)) for what, url in addresses.items()}
        browser.close()
    return found


def opened(browser: Any, url: str) -> float:
    """Seconds until the map stands in a new tab without a cache."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(".map-host button.box")
    taken = time.perf_counter() - begun
    context.close()
    return taken


def milliseconds(ask: Callable[[], Any]) -> float:
    """Median of one answer, the first (which may load a model) left out."""
    ask()
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)


def resident(pid: int | str) -> float:
    """MB that a process holds in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


def resident_with_model(circuit: Path) -> float:
    """MB of a process that has restored a circuit and measured it, and serves nobody."""
    program = (
        "import sys; from gossamer.circuits.evaluate.rerun import restore_circuit;"
        "found = restore_circuit(sys.argv[1]); found.choice.prompt_metrics(found.nodes);"
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')))"
    )
    command = [sys.executable, "-c", program, str(circuit)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]) / 1000


if __name__ == "__main__":
    main()
