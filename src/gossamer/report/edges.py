"""Edges of a circuit as the map draws them and as a table says them."""

from typing import Any

from gossamer.circuits.edge import Edge
from gossamer.circuits.results import Findings
from gossamer.features.feature import Node
from gossamer.report import text

HEADS = 3  # named of every edge; the rest are counted together


def edges_between(findings: Findings) -> list[Edge]:
    """The edges whose source, and whose target where it is no metric, is a node of the findings; strongest first."""
    known = {node.node for node in findings.nodes}
    found = [
        one for one in findings.edges if one.source in known and (isinstance(one.target, str) or one.target in known)
    ]
    return sorted(found, key=lambda edge: -strength(edge))


def strength(edge: Edge) -> float:
    """What edges are ranked by: the size of their influence; of their weight in files of before there was one."""
    return abs(edge.weight if edge.influence is None else edge.influence)


def edge_values(edge: Edge, metric: str) -> dict[str, Any]:
    """One edge in JSON values, five digits a number; `metric` stands for the metric as a target."""
    others = sum((one.weight for one in edge.heads[HEADS:]), 0.0)
    return {
        "source": str(edge.source),
        "target": str(edge.target) if isinstance(edge.target, Node) else metric,
        "weight": rounded(edge.weight),
        "influence": None if edge.influence is None else rounded(edge.influence),
        "direct": None if edge.direct is None else rounded(edge.direct),
        "heads": [{"layer": one.layer, "head": one.head, "weight": rounded(one.weight)} for one in edge.heads[:HEADS]],
        "others": rounded(others),
    }


def edge_table(findings: Findings) -> list[tuple[str, str, str, str, str]]:
    """One row for each edge in words: from, to, weight, influence, and the parts of the weight by heads."""
    return [
        (
            str(edge.source),
            str(edge.target) if isinstance(edge.target, Node) else findings.metric,
            text.number(edge.weight, signed=True),
            text.MISSING if edge.influence is None else text.number(edge.influence, signed=True),
            _shares(edge),
        )
        for edge in edges_between(findings)
    ]


def rounded(value: float) -> float:
    """Five significant digits: a picture needs no more, and a page of many edges stays small."""
    return float(f"{value:.5g}")


def _shares(edge: Edge) -> str:
    """`head 2.1 +0.120, head 3.0 +0.050, other heads −0.010, same token +0.030`: parts of the weight, by size."""
    if edge.direct is None:
        return ""
    parts = [(f"head {one}", one.weight) for one in edge.heads[:HEADS]]
    parts += [("other heads", sum((one.weight for one in edge.heads[HEADS:]), 0.0)), ("same token", edge.direct)]
    parts.sort(key=lambda one: -abs(one[1]))
    # What is left out is less than two percent of the weight each.
    seen = [(name, part) for name, part in parts if abs(part) > 0.02 * abs(edge.weight)]
    return ", ".join(f"{name} {text.number(part, signed=True)}" for name, part in seen)
