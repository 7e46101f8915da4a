"""A circuit as the map of `components/circuit_map.js` takes it: nodes, edges, groups and words, as JSON values.

The form is written down in that file (`MapData`); the same file mounts it in a page, a notebook or an application.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from gossamer.circuits.group import NodeGroup
from gossamer.circuits.results import Findings, NodeCard
from gossamer.display import quoted
from gossamer.features.feature import Feature
from gossamer.report import layout, text
from gossamer.report.edges import edge_values, edges_between, rounded

FORMAT = "gossamer.circuit-map.1"
METRIC = "metric"
WORDS, TOKEN, SENTENCE = 3, 18, 80


def map_data(findings: Findings, links: Mapping[int, str] | None = None) -> dict[str, Any]:
    """The map of a circuit; tokens and words are shown as text has them (:func:`gossamer.report.text.visible`).

    Every node and every edge between nodes of the findings is in it: the map says what it hides.

    Args:
        findings: the circuit, with the cards that words come from.
        links: where each node's card is, by its place in the findings: an address, or `#` and a place in the page.

    Raises:
        GossamerError: a node at a site or role that is not an axis, or a prompt with more or fewer roles than tokens.
    """
    layout.require_axes(findings)
    rows = {site: row for row, site in enumerate(findings.sites)}
    columns = {role: column for column, role in enumerate(findings.roles)}
    links = {} if links is None else links
    nodes = [
        {
            "id": str(node.node),
            "index": index,
            "row": rows[node.site],
            "column": columns[node.role],
            **named(node.card.feature),
            "words": _words(node),
            "effect": _finite(node.effect),
            "direct": _finite(node.direct),
            "activation": _finite(node.activation),
            "ablated": _finite(node.ablated),
            "recurrence": _finite(node.recurrence),
            "href": links.get(index),
        }
        for index, node in enumerate(findings.nodes)
    ]
    return {
        "format": FORMAT,
        "metric": {"id": METRIC, "label": findings.metric, "unit": findings.unit},
        "rows": [str(site) for site in findings.sites],
        "columns": [_column(findings, role) for role in findings.roles],
        "nodes": nodes,
        "edges": [edge_values(edge, METRIC) for edge in edges_between(findings)],
        "groups": group_values(findings.groups),
    }


def group_values(groups: Iterable[NodeGroup]) -> list[dict[str, Any]]:
    """Groups as the map has them."""
    return [
        {
            "id": f"group {number}",
            "label": text.visible(group.label, SENTENCE),
            "nodes": [str(node) for node in group.nodes],
            "effect": _finite(group.effect),
        }
        for number, group in enumerate(groups)
    ]


def named(feature: Feature) -> dict[str, Any]:
    """What a node of a latent, or of an error, is called and drawn as."""
    if feature.is_error:
        return {"name": feature.name, "latent": None, "kind": "error"}
    return {"name": f"latent {feature.name}", "latent": feature.latent, "kind": "latent"}


def _words(node: NodeCard) -> list[str]:
    """What stands in place of the latent's number: what it is said to be, else a few words of its card."""
    if node.node.is_error:
        return ["reconstruction error"]
    if node.card.explanation is not None:
        return [text.visible(node.card.explanation, SENTENCE)]
    return [text.visible(quoted(word), TOKEN) for word in node.card.words(WORDS)]


def _column(findings: Findings, role: str) -> dict[str, Any]:
    prompt = findings.prompt
    tokens = [token for token, own in zip(prompt.tokens, prompt.roles, strict=True) if own == role]
    others = []
    if layout.aligned(prompt):
        triples = zip(prompt.tokens, prompt.counterfactual, prompt.roles, strict=True)
        others = [other for token, other, own in triples if own == role and other != token]
    shown = [[text.visible(token, TOKEN) for token in found] for found in (tokens, others)]
    return {"id": role, "label": role, "tokens": shown[0], "counterfactual": shown[1]}


def _finite(value: float) -> float | None:
    return rounded(value) if math.isfinite(value) else None
