"""GraphML, which networkx, Gephi, yEd and igraph read: a directed graph whose nodes and edges have facts by name."""

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
Facts = Mapping[str, str | int | float]
_KINDS = {str: "string", int: "long", float: "double"}


def graphml(nodes: Mapping[str, Facts], edges: Iterable[tuple[str, str, Facts]], facts: Facts) -> str:
    """The text of a file.

    A fact is of one type wherever it is known. Text must hold nothing that XML has not, such as control characters.

    Args:
        nodes: by name.
        edges: source, target, and what is known of each.
        facts: of the graph as a whole.
    """
    links = list(edges)
    root = ElementTree.Element("graphml", {"xmlns": NAMESPACE})
    found = {"node": _kinds(nodes.values()), "edge": _kinds(known for _, _, known in links), "graph": _kinds([facts])}
    names = [name for kinds in found.values() for name in kinds]
    # A name of nodes and of edges is declared twice; readers tell keys apart by their ids.
    ids = {
        (of, name): name if names.count(name) == 1 else f"{of}-{name}" for of, kinds in found.items() for name in kinds
    }
    for (of, name), key in ids.items():
        said = {"id": key, "for": of, "attr.name": name, "attr.type": found[of][name]}
        ElementTree.SubElement(root, "key", said)
    body = ElementTree.SubElement(root, "graph", {"edgedefault": "directed"})
    _write(body, "graph", facts, ids)
    for name, known in nodes.items():
        _write(ElementTree.SubElement(body, "node", {"id": name}), "node", known, ids)
    for source, target, known in links:
        _write(ElementTree.SubElement(body, "edge", {"source": source, "target": target}), "edge", known, ids)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)


def _kinds(rows: Iterable[Facts]) -> dict[str, str]:
    return {name: _KINDS[type(value)] for row in rows for name, value in row.items()}


def _write(element: ElementTree.Element, of: str, facts: Facts, ids: Mapping[tuple[str, str], str]) -> None:
    for name, value in facts.items():
        said = value if isinstance(value, str) else repr(value)
        ElementTree.SubElement(element, "data", {"key": ids[of, name]}).text = said
