"""Files of the graph: node-link JSON of the published interface, GraphML, and Parquet; written and read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from gossamer.errors import GossamerError, UsageError
from gossamer.files import atomic_write, needed, read_json, read_text, write_json, write_text
from gossamer.graphml import NAMESPACE, Facts, graphml
from gossamer.relations.graph import RelationGraph, layer_of
from gossamer.relations.measures import Ints

_EDGES = ("upstream", "i", "downstream", "j", "similarity")


def write_node_link(
    graph: RelationGraph,
    path: str | Path,
    *,
    description: str = "",
    prompt: str = "",
    communities: Ints | None = None,
    explanations: Mapping[str, str] | None = None,
) -> Path:
    """Write networkx's node-link JSON with `l_feature` ids: {directed, multigraph, graph, nodes, links}.

    A node has id, layer, feature, source (the dictionary's name), community and explanation where they are given; a
    link source, target and similarity.

    Args:
        communities: of each node.
        explanations: by id.
    """
    said, names = explanations or {}, graph.ids
    nodes: list[dict[str, Any]] = []
    for node, name in enumerate(names):
        source = graph.names[graph.sources[node]]
        made = {"id": name, "layer": layer_of(source), "feature": int(graph.latents[node]), "source": source}
        if communities is not None:
            made["community"] = int(communities[node])
        nodes.append(made | ({"explanation": said[name]} if name in said else {}))
    links = [
        {"source": names[head], "target": names[tail], "similarity": value}
        for head, tail, value in zip(graph.heads, graph.tails, graph.similarity.tolist(), strict=True)
    ]
    facts = {
        "description": description,
        "prompt": prompt,
        "clamping_threshold": graph.threshold,
        "measure": graph.measure,
        "sources": list(graph.names),
    }
    return write_json(path, {"directed": True, "multigraph": False, "graph": facts, "nodes": nodes, "links": links})


def read_node_link(path: str | Path) -> RelationGraph:
    """Read such a file, ours or one of the published interface (whose layers are taken as resid_pre).

    Raises:
        GossamerError: no such graph, an id twice, or a link to a node that is not there.
    """
    body = read_json(path)
    try:
        facts, nodes = body["graph"], body["nodes"]
        sources = [str(one.get("source") or f"resid_pre.{int(one['layer'])}") for one in nodes]
        ids = {str(one["id"]): place for place, one in enumerate(nodes)}
        given = facts.get("sources") or sorted(set(sources), key=lambda name: (layer_of(name) or 0, name))
        latents = [int(one["feature"]) for one in nodes]
        ends = [(ids[str(one["source"])], ids[str(one["target"])]) for one in body["links"]]
        similarity = [float(one["similarity"]) for one in body["links"]]
        facts = (str(facts.get("measure") or "similarity"), float(facts.get("clamping_threshold") or 0))
        places = [list(given).index(name) for name in sources]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, "a node-link graph of features", error) from error
    if len(ids) < len(nodes):
        raise GossamerError(f"{path}: each id once expected, found {len(nodes) - len(ids)} twice; write it again")
    return _built([str(name) for name in given], places, latents, ends, similarity, facts)


def read_communities(path: str | Path) -> Ints | None:
    """The community of each node of such a file, in the order of :func:`read_node_link`; None where it says none.

    Raises:
        GossamerError: it is no such file.
    """
    try:
        found = [one.get("community") for one in read_json(path)["nodes"]]
        return None if None in found else np.array(found, np.int64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, "a node-link graph of features", error) from error


def write_graphml(graph: RelationGraph, path: str | Path) -> Path:
    """Write GraphML: nodes with source and feature, edges with similarity, as networkx and Gephi read it."""
    nodes: dict[str, Facts] = {
        name: {"source": graph.names[graph.sources[node]], "feature": int(graph.latents[node])}
        for node, name in enumerate(graph.ids)
    }
    edges = (
        (graph.ids[head], graph.ids[tail], {"similarity": value})
        for head, tail, value in zip(graph.heads, graph.tails, graph.similarity.tolist(), strict=True)
    )
    facts: Facts = {"measure": graph.measure, "threshold": graph.threshold, "sources": " ".join(graph.names)}
    return write_text(path, graphml(nodes, edges, facts))


def read_graphml(path: str | Path) -> RelationGraph:
    """Read what :func:`write_graphml` wrote.

    Raises:
        GossamerError: it is no such file.
    """
    text = read_text(path, "GraphML")
    try:
        if "<!DOCTYPE" in text:
            # Entities that a file defines can unpack to more than memory holds.
            raise ValueError("a document type of its own")
        body = ElementTree.fromstring(text).find(f"{{{NAMESPACE}}}graph")
        if body is None:
            raise ValueError("no graph")
        facts = _values(body)
        nodes = [(str(one.get("id")), _values(one)) for one in body.iterfind(f"{{{NAMESPACE}}}node")]
        edges = [(one, _values(one)) for one in body.iterfind(f"{{{NAMESPACE}}}edge")]
        ids = {name: place for place, (name, _) in enumerate(nodes)}
        names = facts["sources"].split(" ")
        return _built(
            names,
            [names.index(one["source"]) for _, one in nodes],
            [int(one["feature"]) for _, one in nodes],
            [(ids[str(one.get("source"))], ids[str(one.get("target"))]) for one, _ in edges],
            [float(one["similarity"]) for _, one in edges],
            (facts["measure"], float(facts["threshold"])),
        )
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise _damaged(path, "GraphML of features", error) from error


def _values(element: ElementTree.Element) -> dict[str, str]:
    return {str(one.get("key")): one.text or "" for one in element.iterfind(f"{{{NAMESPACE}}}data")}


def write_parquet(graph: RelationGraph, path: str | Path) -> Path:
    """Write one row an edge: upstream, i, downstream, j, similarity; sorted, so that a layer is a range.

    Raises:
        UsageError: pyarrow is not installed, or no file can be made there.
    """
    pyarrow = needed("pyarrow", "relations in Parquet")
    parquet = needed("pyarrow.parquet", "relations in Parquet")
    order = np.lexsort(
        (graph.latents[graph.tails], graph.latents[graph.heads], graph.sources[graph.tails], graph.sources[graph.heads])
    )
    heads, tails = graph.heads[order], graph.tails[order]
    names = pyarrow.array(graph.names)
    ends = [(graph.sources[nodes].astype(np.int32), graph.latents[nodes]) for nodes in (heads, tails)]
    columns = [
        part
        for source, latent in ends
        for part in (pyarrow.DictionaryArray.from_arrays(source, names), pyarrow.array(latent))
    ]
    facts = {
        "gossamer.measure": graph.measure,
        "gossamer.threshold": repr(graph.threshold),
        "gossamer.sources": " ".join(graph.names),
    }
    table = pyarrow.table([*columns, pyarrow.array(graph.similarity[order])], names=list(_EDGES))
    with atomic_write(path) as temporary:
        parquet.write_table(table.replace_schema_metadata(facts), temporary)
    return Path(path)


def read_parquet(path: str | Path) -> RelationGraph:
    """Read what :func:`write_parquet` wrote.

    Raises:
        UsageError: pyarrow is not installed, or there is no such file.
        GossamerError: it is no such file.
    """
    pyarrow, parquet = needed("pyarrow", "relations in Parquet"), needed("pyarrow.parquet", "relations in Parquet")
    if not Path(path).is_file():
        raise UsageError(f"{path}: no such file; give the path of a Parquet file of relations")
    try:
        table = parquet.read_table(path)
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        names = facts["gossamer.sources"].split(" ")
        sources = [[names.index(one) for one in table[name].to_pylist()] for name in ("upstream", "downstream")]
        latents = [np.asarray(table[name]).astype(np.int64) for name in ("i", "j")]
        similarity = np.asarray(table["similarity"]).tolist()
        found = facts["gossamer.measure"], float(facts["gossamer.threshold"])
    except (pyarrow.ArrowInvalid, KeyError, ValueError) as error:
        raise _damaged(path, "relations in Parquet", error) from error
    ends = np.stack([np.concatenate([np.asarray(one, np.int64) for one in sources]), np.concatenate(latents)])
    nodes, places = np.unique(ends, axis=1, return_inverse=True)
    heads, tails = np.split(places.reshape(-1), 2)
    pairs = list(zip(heads.tolist(), tails.tolist(), strict=True))
    return _built(names, nodes[0].tolist(), nodes[1].tolist(), pairs, similarity, found)


def _built(
    names: Sequence[str],
    sources: Sequence[int],
    latents: Sequence[int],
    ends: Sequence[tuple[int, int]],
    similarity: Sequence[float],
    facts: tuple[str, float],
) -> RelationGraph:
    pairs = np.array(ends, np.int64).reshape(-1, 2)
    parts = (np.array(sources, np.int64), np.array(latents, np.int64), pairs[:, 0], pairs[:, 1])
    return RelationGraph(tuple(names), *parts, np.array(similarity, float), *facts)


def _damaged(path: str | Path, what: str, error: Exception) -> GossamerError:
    return GossamerError(f"{path}: expected {what}, found damage ({type(error).__name__}: {error}); write it again")
