"""A circuit as GraphML, which networkx, Gephi, yEd and igraph read."""

import math
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.edge import Edge
from gossamer.circuits.results import Findings, NodeCard
from gossamer.features.feature import Node
from gossamer.report import text

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_KINDS = {str: "string", int: "int", float: "double"}


def to_graphml(circuit: Circuit, findings: Findings | None = None) -> str:
    """The circuit as a directed graph: its nodes, its edges and the metric, with all that is known of each by name.

    A number that is not known is left out. Text has its invisible characters written out, because XML has none.

    Args:
        circuit: with its edges.
        findings: of the same circuit, for words, effects and activations.
    """
    cards = {} if findings is None else {card.node: card for card in findings.nodes}
    metrics = sorted({edge.target for edge in circuit.edges if isinstance(edge.target, str)})
    nodes = {str(one.node): {**_place(one.node), **_facts(one.score, cards.get(one.node))} for one in circuit.nodes}
    nodes |= {metric: {"kind": "metric", "label": metric} for metric in metrics}
    edges = [(str(edge.source), str(edge.target), _carried(edge)) for edge in circuit.edges]
    root = ElementTree.Element("graphml", {"xmlns": _NAMESPACE})
    keys = {
        **_keys(root, "node", nodes.values()),
        **_keys(root, "edge", [facts for _, _, facts in edges]),
    }
    facts = {"task": circuit.task, "model": circuit.model}
    keys |= _keys(root, "graph", [facts])
    graph = ElementTree.SubElement(root, "graph", {"id": "circuit", "edgedefault": "directed"})
    _write(graph, "graph", facts, keys)
    for name, known in nodes.items():
        _write(ElementTree.SubElement(graph, "node", {"id": text.visible(name)}), "node", known, keys)
    for source, target, known in edges:
        ends = {"source": text.visible(source), "target": text.visible(target)}
        _write(ElementTree.SubElement(graph, "edge", ends), "edge", known, keys)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _place(node: Node) -> dict[str, Any]:
    layer = {} if node.site.layer is None else {"layer": node.site.layer}
    kind = {"kind": "error"} if node.is_error else {"kind": "latent", "latent": node.latent}
    return {**kind, "site": str(node.site), **layer, "role": node.role or ""}


def _facts(score: float | None, card: NodeCard | None) -> dict[str, Any]:
    if card is None:
        return {} if score is None else {"effect": score}
    said = {"label": card.card.label, "words": " ".join(card.card.words())}
    values = {name: getattr(card, name) for name in ("effect", "activation", "ablated", "direct", "recurrence")}
    return {**said, **values, "density": card.card.density}


def _carried(edge: Edge) -> dict[str, Any]:
    known = {"influence": edge.influence, "direct": edge.direct}
    found = {name: value for name, value in known.items() if value is not None}
    heads = {"heads": ", ".join(f"{one} {one.weight:.4g}" for one in edge.heads)} if edge.heads else {}
    return {"weight": edge.weight, **found, **heads}


def _keys(root: ElementTree.Element, of: str, rows: Any) -> dict[tuple[str, str], str]:
    """Declare what nodes or edges have; returns the id of each."""
    kinds: dict[str, str] = {}
    for row in rows:
        kinds |= {name: _KINDS[type(value)] for name, value in row.items()}
    for name, kind in kinds.items():
        of_key = {"id": f"{of}-{name}", "for": of, "attr.name": name, "attr.type": kind}
        ElementTree.SubElement(root, "key", of_key)
    return {(of, name): f"{of}-{name}" for name in kinds}


def _write(
    element: ElementTree.Element, of: str, facts: Mapping[str, Any], keys: Mapping[tuple[str, str], str]
) -> None:
    for name, value in _known(facts):
        ElementTree.SubElement(element, "data", {"key": keys[of, name]}).text = value


def _known(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, str):
            yield name, text.visible(value)
        elif not isinstance(value, float) or math.isfinite(value):
            yield name, repr(value)
