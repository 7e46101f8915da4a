"""Edges of a circuit as the page's script draws and lists them."""

from typing import Any

from gossamer.circuits.edge import Edge
from gossamer.circuits.results import Findings
from gossamer.report import text

HEADS = 3  # named in the list of a node's edges; the rest are counted together


def edge_rows(findings: Findings) -> list[list[Any]]:
    """One row for each edge whose source is a node of the findings.

    Its columns: number of the source; number of the target, or -1 for the metric; sign of the weight; its size among
    all edges, by influence, from 0 to 1; and in words the weight, the influence, the head that carried most of it (if
    one carried more than stayed at its token), and its parts.
    """
    places = {node.node: index for index, node in enumerate(findings.nodes)}
    known = [
        (edge, places[edge.source], places.get(edge.target, -1) if not isinstance(edge.target, str) else -1)
        for edge in findings.edges
        if edge.source in places and (isinstance(edge.target, str) or edge.target in places)
    ]
    largest = max((abs(_size(edge)) for edge, _, _ in known), default=0.0) or 1.0
    return [
        [
            source,
            target,
            1 if edge.weight > 0 else -1,
            round(abs(_size(edge)) / largest, 4),
            text.number(edge.weight, signed=True),
            text.MISSING if edge.influence is None else text.number(edge.influence, signed=True),
            str(edge.heads[0]) if edge.heads and abs(edge.heads[0].weight) > abs(edge.direct or 0.0) else "",
            _shares(edge),
        ]
        for edge, source, target in known
    ]


def _size(edge: Edge) -> float:
    return edge.weight if edge.influence is None else edge.influence


def _shares(edge: Edge) -> str:
    """`head 2.1 +0.120, head 3.0 +0.050, other heads −0.010, same token +0.030`: parts of the weight, by size."""
    if edge.direct is None:
        return ""
    parts = [(f"head {one}", one.weight) for one in edge.heads[:HEADS]]
    parts += [("other heads", sum(one.weight for one in edge.heads[HEADS:])), ("same token", edge.direct)]
    parts.sort(key=lambda one: -abs(one[1]))
    # What is left out is less than two percent of the weight each.
    seen = [(name, part) for name, part in parts if abs(part) > 0.02 * abs(edge.weight)]
    return ", ".join(f"{name} {text.number(part, signed=True)}" for name, part in seen)
