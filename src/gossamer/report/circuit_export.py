"""A circuit in the formats of other programs: what each is called, and how it is written.

The graph formats need the circuit on a prompt (:func:`gossamer.circuits.export.graph_on_prompt`), pictures need its
findings.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer import files
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.export import save_attribution_graph, save_viewer_folder, with_marks
from gossamer.circuits.results import Findings
from gossamer.errors import UsageError
from gossamer.features.feature import Node
from gossamer.report import figures, style
from gossamer.report.graphml import circuit_graphml
from gossamer.report.notebook_map import CircuitMap


@dataclass(frozen=True)
class ExportFormat:
    """A format: the ending of its file (none for a folder), its media type, and who reads it."""

    ending: str
    media: str
    readers: str


FORMATS = {
    "neuronpedia": ExportFormat(".json", "application/json", "Neuronpedia's upload of graphs"),
    "circuit-tracer": ExportFormat("", "application/zip", "circuit-tracer's server: graphs and features"),
    "graphml": ExportFormat(".graphml", "application/graphml+xml", "networkx, Gephi, yEd, igraph"),
    "svg": ExportFormat(".svg", "image/svg+xml", "browsers, Inkscape: the figure for a paper"),
    "html": ExportFormat(".html", "text/html", "browsers: the map alone, to walk through"),
}


@dataclass(frozen=True)
class Marks:
    """What a reader made of a circuit: pinned nodes, groups with their names, labels."""

    pinned: tuple[Node, ...] = ()
    groups: tuple[tuple[str, tuple[Node, ...]], ...] = ()
    labels: tuple[tuple[Node, str], ...] = ()


def export_circuit(
    format: str,
    target: Path,
    circuit: Circuit,
    findings: Findings | None,
    graph: Callable[[], dict[str, Any]],
    marks: Marks | None = None,
) -> Path:
    """Write a circuit; returns the path.

    Without marks of a reader a graph has the groups of the findings as supernodes, and words in place of numbers.

    Args:
        format: one of `FORMATS`.
        target: a file, or a folder for the format that is one.
        circuit: what to write.
        findings: of the same circuit; None: there are none.
        graph: gives the circuit on a prompt; called where the format is one of graphs.
        marks: of a reader.

    Raises:
        UsageError: another format, a picture without findings, or nothing can be written there.
    """
    if format not in FORMATS:
        raise UsageError(f"export: one of {', '.join(FORMATS)} expected, found {format!r}")
    if format == "graphml":
        return files.write_text(target, circuit_graphml(circuit, findings))
    if format in ("svg", "html"):
        if findings is None:
            raise UsageError(f"{format}: findings beside the circuit expected; let 'gossamer circuit' run to its end")
        return files.write_text(target, _picture(format, findings))
    shown = _marked(graph(), findings, marks)
    if format == "neuronpedia":
        return save_attribution_graph(target, shown)
    nodes = () if findings is None else findings.nodes
    return save_viewer_folder(target, shown, {node.card.feature: node.card for node in nodes}.values())


def _picture(format: str, findings: Findings) -> str:
    if format == "html":
        return CircuitMap(findings).page()
    return style.svg(style.settled(figures.circuit_map(findings)))


def _marked(graph: dict[str, Any], findings: Findings | None, marks: Marks | None) -> dict[str, Any]:
    known = {} if findings is None else {node.node: _said(node.node, node.card.label) for node in findings.nodes}
    if marks is None:
        groups = () if findings is None else tuple((one.label, one.nodes) for one in findings.groups)
        return with_marks(graph, groups=groups, labels=known)
    labels = known | {node: _said(node, label) for node, label in marks.labels}
    return with_marks(graph, pinned=marks.pinned, groups=marks.groups, labels=labels)


def _said(node: Node, label: str) -> str:
    return f"{label} · {node.feature} at {node.role}" if label else f"{node.feature} at {node.role}"


def zipped(folder: Path) -> bytes:
    """A folder's files as a ZIP archive, the same bytes every time; its paths begin with the folder's name."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            place = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
            archive.writestr(place, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return found.getvalue()
