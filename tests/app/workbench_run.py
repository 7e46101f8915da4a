"""A small run of the bundled model, as `gossamer circuit` leaves one, and clients that ask a workbench of it."""

import json
import shutil
import threading
import time
from contextlib import contextmanager

import uvicorn
from starlette.testclient import TestClient

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.app.guard import loopback_hosts
from gossamer.app.live import LiveModels
from gossamer.app.page import SOURCES
from gossamer.app.ports import listen
from gossamer.app.run_folder import RunFolder
from gossamer.app.server import create_app
from gossamer.app.workbench import Workbench
from gossamer.circuits.find import find_circuit
from gossamer.circuits.findings import collect_findings
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import StudySettings
from gossamer.features import Feature
from gossamer.features.examples import ExampleSettings
from gossamer.model.site import Site
from gossamer.store import FeatureStore, Search, StoreSettings, build_store
from gossamer.tasks import get

TOKEN, HOST = "a-token", "127.0.0.1:8231"
TEXT = "The boys near the dog"


def write_run(folder):
    """circuit.json and findings.json of a circuit of 12 nodes, with its edges tested."""
    model = LanguageModel.load("bundled:spool", device="cpu")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    task = get("sva-simple").generate(model.tokenizer, n=40, seed=1, bos=True)
    settings = StudySettings(batch_size=16, seed=2, minimum_accuracy=0.6)
    found = find_circuit(model, dictionaries, task, size=12, settings=settings, search=SearchSettings(steps=3, seed=2))
    found.circuit.save(folder / "circuit.json")
    findings = collect_findings(found, methods=["random"], reruns=0, edges=True, subsets=2)
    findings.save(folder / "findings.json")
    return found, findings


def write_store(folder):
    """The bundled dictionaries, a feature store of them and an explanation; returns the texts of the store."""
    model = LanguageModel.load("bundled:spool", device="cpu")
    home = bundled.path("spool") / "dictionaries"
    shutil.copytree(home, folder / "dictionaries")
    dictionaries = DictionarySet.load(home)
    task = get("sva-simple").generate(model.tokenizer, n=60, seed=5, bos=True)
    texts = [prompt.clean_text for prompt in (*task.train.prompts, *task.test.prompts)]
    settings = StoreSettings(words=3, neighbours=3, examples=ExampleSettings(k=4, strata=5, per_stratum=2))
    build_store(model, dictionaries, texts, folder / "store", settings=settings)
    with FeatureStore(folder / "store") as store:
        busiest = store.search(Search(site="resid_post.2"), limit=1).to_pylist()[0]["latent"]
        feature = Feature(Site.parse("resid_post.2"), busiest)
        store.explain({feature: "nouns of several boys"}, "person", scores={feature: 0.75}, scorer="detection")
    return texts


def bench_of(folder) -> Workbench:
    """A workbench that can save views; nothing is loaded yet."""
    return Workbench(RunFolder(folder), LiveModels("cpu"))


def client_of(bench, **headers) -> TestClient:
    """Asks as the page does."""
    app = create_app(bench, TOKEN, {HOST})
    return TestClient(
        app, base_url=f"http://{HOST}", headers={"x-gossamer-token": TOKEN, **headers}, raise_server_exceptions=False
    )


@contextmanager
def serving(run):
    """The address of a server of a run, its folder or its workbench, in this process, as `gossamer view` starts it."""
    bench, socket = run if isinstance(run, Workbench) else bench_of(run), listen(0)
    port = socket.getsockname()[1]
    app = create_app(bench, TOKEN, loopback_hosts(port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    with bench.holding_views():
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()
    socket.close()


def no_sideways_scroll(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def grave_findings(page):
    """What axe calls serious or worse in a page, each with where it is."""
    # Run by the browser itself: the page's own policy lets no such script in.
    page.evaluate((SOURCES / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = json.loads(page.evaluate("axe.run().then((found) => JSON.stringify(found.violations))"))
    return {
        one["id"]: [f"{node['html'][:160]}: {node['failureSummary'][:200]}" for node in one["nodes"][:3]]
        for one in found
        if one["impact"] in ("serious", "critical")
    }
