"""What a reader made of a circuit, in an attribution graph: pinned nodes, groups as supernodes, labels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gossamer.circuits.export.attribution_graph import placed_nodes
from gossamer.features.feature import Node


def with_marks(
    graph: Mapping[str, Any],
    *,
    pinned: Iterable[Node] = (),
    groups: Sequence[tuple[str, Sequence[Node]]] = (),
    labels: Mapping[Node, str] | None = None,
) -> dict[str, Any]:
    """The graph with nodes pinned, grouped and named, at every position where they stand.

    Readers draw a supernode of pinned nodes only, so that nodes of a group are pinned too; nodes that are not in this
    graph are left out, and so is a group of fewer than two.

    Args:
        graph: of :func:`to_attribution_graph`.
        pinned: nodes that the reader shows in a picture of their own.
        groups: name and nodes of each.
        labels: what nodes are called (`clerp`), in place of their names.
    """
    ids: dict[Node, list[str]] = {}
    for placed, node in placed_nodes(graph):
        ids.setdefault(placed.node, []).append(node["node_id"])
    supernodes = [[name, *(one for node in nodes for one in ids.get(node, ()))] for name, nodes in groups]
    supernodes = [one for one in supernodes if len(one) > 2]
    chosen = [one for node in pinned for one in ids.get(node, ())]
    chosen += [one for group in supernodes for one in group[1:]]
    named = {one: label for node, label in (labels or {}).items() for one in ids.get(node, ())}
    nodes = [{**node, "clerp": named.get(node["node_id"], node["clerp"])} for node in graph["nodes"]]
    marked = {"pinnedIds": list(dict.fromkeys(chosen)), "supernodes": supernodes}
    return {**graph, "nodes": nodes, "qParams": {**graph["qParams"], **marked}}
