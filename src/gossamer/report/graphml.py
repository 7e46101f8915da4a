"""A circuit as GraphML: its nodes, its edges and the metric, with all that is known of each by name."""

import math
from collections.abc import Mapping
from typing import Any

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.edge import Edge
from gossamer.circuits.results import Findings, NodeCard
from gossamer.features.feature import Node
from gossamer.graphml import Facts, graphml
from gossamer.report.text import visible


def circuit_graphml(circuit: Circuit, findings: Findings | None = None) -> str:
    """The circuit as a directed graph; a metric that edges end in is a node of its own.

    A number that is not known is left out. Text has its invisible characters written out, because XML has none.

    Args:
        circuit: with its edges.
        findings: of the same circuit, for words, effects and activations.
    """
    cards = {} if findings is None else {card.node: card for card in findings.nodes}
    nodes = {
        visible(str(one.node)): _known({**_place(one.node), **_facts(one.score, cards.get(one.node))})
        for one in circuit.nodes
    }
    metrics = sorted({edge.target for edge in circuit.edges if isinstance(edge.target, str)})
    nodes |= {metric: {"kind": "metric", "label": metric} for metric in metrics}
    edges = [(visible(str(edge.source)), visible(str(edge.target)), _known(_carried(edge))) for edge in circuit.edges]
    return graphml(nodes, edges, _known({"task": circuit.task, "model": circuit.model}))


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


def _known(facts: Mapping[str, Any]) -> Facts:
    said = {name: visible(value) if isinstance(value, str) else value for name, value in facts.items()}
    return {name: value for name, value in said.items() if not isinstance(value, float) or math.isfinite(value)}
