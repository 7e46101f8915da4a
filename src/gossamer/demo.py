"""The main job on the bundled model, from nothing to a report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gossamer import bundled
from gossamer.attention.qk_edges import qk_edges
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.cost import first_prompts
from gossamer.circuits.edge import QKEdge
from gossamer.circuits.export import save_attribution_graph, save_viewer_folder
from gossamer.circuits.families.grouping import FamilyKind
from gossamer.circuits.find import CircuitResult, find_circuit
from gossamer.circuits.findings import collect_findings
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import StudySettings
from gossamer.dictionary import Dictionary, DictionarySet
from gossamer.features.feature_card import CardSource
from gossamer.model import LanguageModel
from gossamer.model.site import SiteMapping
from gossamer.progress import announce
from gossamer.report import write_report
from gossamer.results import folder_lock
from gossamer.tasks import get
from gossamer.tasks.task import Task

MODEL = "spool"
TASK = "sva-rc"
# Latents that a circuit for another behaviour holds too are flagged as generic.
OTHER_TASK = "code-index"


@dataclass(frozen=True)
class Demo:
    """What the demo found and where its report lies."""

    found: CircuitResult
    report: Path


def run_demo(folder: str | Path, seed: int = 0) -> Demo:
    """Find the circuit for agreement across a relative clause in the bundled model, test it and write the report.

    Args:
        folder: gets report.html, figures, circuit.json, graph.json and findings.json.
        seed: of prompts, search and intervals.

    Raises:
        UsageError: nothing can be written into `folder`, or another process works there.
    """
    with folder_lock(folder):
        return _run(folder, seed)


def _run(folder: str | Path, seed: int) -> Demo:
    model = LanguageModel.load(f"bundled:{MODEL}")
    dictionaries = DictionarySet.load(bundled.path(MODEL) / "dictionaries", device=model.device)
    settings = StudySettings(seed=seed)

    def search(task: str, n: int, size: int) -> CircuitResult:
        prompts = get(task).generate(model.tokenizer, n=n, seed=seed, bos=True)
        steps = SearchSettings(seed=seed, steps=100)
        return find_circuit(model, dictionaries, prompts, size=size, settings=settings, search=steps)

    with _one_thread():
        other = search(OTHER_TASK, 96, size=15)
        found = search(TASK, 256, size=55)
        return Demo(found, write_results(found, folder, others=[other.circuit], edges=True))


@contextmanager
def _one_thread() -> Iterator[None]:
    """For so small a model a second thread gains nothing, and on a busy machine threads wait for one another.

    Measured on two cores: 95 s with two threads while nothing else ran, 10 minutes beside three other jobs; with one
    thread 2.5 minutes beside two.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_results(
    found: CircuitResult,
    folder: str | Path,
    *,
    methods: Sequence[str] | None = None,
    reruns: int = 2,
    others: Sequence[Circuit] = (),
    edges: bool = False,
    qk: bool = False,
    source: CardSource | None = None,
    controls: Mapping[str, SiteMapping[Dictionary]] | None = None,
    families: FamilyKind | None = None,
    unseen: Task | None = None,
) -> Path:
    """Write circuit.json and graph.json into `folder`, then evaluate and write the report; returns report.html's path.

    `circuit-tracer` gets the graph once more, with what is known of its features, as that program's server shows it.

    The search and what it found are on disk before the evaluation, which takes longer, begins. What another run left
    in the folder goes before, its report first: killed at any moment, the folder never mixes two runs. With the report
    both files are written once more, with the groups of nodes. Hold the folder with
    :func:`gossamer.results.folder_lock` meanwhile.

    Args:
        found: the circuit.
        folder: made if missing.
        methods, reruns, others, edges, source, controls, families, unseen: see
            :func:`gossamer.circuits.findings.collect_findings`.
        qk: whether to say which pairs of nodes made heads attend that carried edges (:func:`qk_edges`).
    """
    target = Path(folder)
    viewer = [f"circuit-tracer/{name}" for name in ("*.json", "features/*")]
    for name in ("report.html", "figures/*.png", "figures/*.svg", "findings.json", "graph.json", *viewer):
        for path in target.glob(name):
            path.unlink()
    if qk:
        found = replace(found, circuit=replace(found.circuit, qk=_pairs(found)))
    _save(found, target)
    said = f"{found!r} is in {target / 'circuit.json'}; it is now measured in full, for the report"
    announce(lambda: said)
    asked: dict[str, Any] = {"edges": edges, "source": source, "controls": controls, "families": families}
    asked |= {"unseen": unseen}
    findings = collect_findings(found, methods=methods, reruns=reruns, others=others, **asked)
    graph = _save(replace(found, circuit=replace(found.circuit, groups=findings.groups)), target)
    cards = {node.card.feature: node.card for node in findings.nodes}
    save_viewer_folder(target / "circuit-tracer", graph, cards.values())
    return write_report(findings, target)


def _save(found: CircuitResult, folder: Path) -> dict[str, Any]:
    """Write circuit.json and graph.json; returns the latter."""
    found.circuit.save(folder / "circuit.json")
    graph = found.graph()
    save_attribution_graph(folder / "graph.json", graph)
    return graph


def _pairs(found: CircuitResult) -> tuple[QKEdge, ...]:
    """On the prompts that edges were measured on."""
    splice = found.study.splice
    return qk_edges(splice.select(first_prompts(splice, found.effects.prompts)), found.nodes, found.circuit.edges)
