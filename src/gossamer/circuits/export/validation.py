"""The rules of the attribution-graph format, as its published schema and its readers have them."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from gossamer.circuits.export.numbering import LARGEST, cantor
from gossamer.errors import GossamerError

FEATURE, TOKEN, LOGIT, UNKNOWN = "cross layer transcoder", "embedding", "logit", "unknown"
ERROR = "mlp reconstruction error"

_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "graph": {"metadata": (dict,), "qParams": (dict,), "nodes": (list,), "links": (list,)},
    "metadata": {"slug": (str,), "scan": (str,), "prompt_tokens": (list,), "prompt": (str,)},
    "node": {
        "node_id": (str,),
        "feature": (int, type(None)),
        "layer": (str, int),
        "ctx_idx": (int,),
        "feature_type": (str,),
        "jsNodeId": (str,),
        "clerp": (str,),
    },
    "link": {"source": (str,), "target": (str,), "weight": (int, float)},
}
_LOGIT_LABEL = re.compile(r'Output ".*" \(p=[01]\.\d+\)', re.DOTALL)


def validate_attribution_graph(value: Any) -> None:
    """Check a graph: required fields and types, distinct ids, links between nodes of the graph, finite numbers.

    Besides the published schema: positions lie in the prompt; the label of a logit is of the form that readers parse,
    ``Output "token" (p=0.123)``; a feature's id is ``layer_feature_position`` and, from schema_version 1 on, its
    `feature` is the Cantor pairing of both.

    Raises:
        GossamerError: the first rule that is broken.
    """
    _check_fields(value, "graph", "graph")
    metadata = value["metadata"]
    _check_fields(metadata, "metadata", "metadata")
    if not all(isinstance(token, str) for token in metadata["prompt_tokens"]):
        raise _broken("metadata.prompt_tokens", "strings expected")
    ids: set[str] = set()
    for place, node in enumerate(value["nodes"]):
        _check_fields(node, "node", f"nodes[{place}]")
        _check_node(node, metadata, f"node {node['node_id']!r}")
        if node["node_id"] in ids:
            raise _broken(f"node {node['node_id']!r}", "the id of another node too")
        ids.add(node["node_id"])
    for place, link in enumerate(value["links"]):
        _check_fields(link, "link", f"links[{place}]")
        _check_link(link, ids, f"link {link['source']!r} to {link['target']!r}")


def _check_fields(value: Any, kind: str, where: str) -> None:
    if not isinstance(value, dict):
        raise _broken(where, f"an object expected, found {type(value).__name__}")
    for name, types in _FIELDS[kind].items():
        if name not in value:
            raise _broken(where, f"no {name!r}")
        # JSON's true and false are no numbers, but Python's are.
        if isinstance(value[name], bool) or not isinstance(value[name], types):
            expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise _broken(where, f"{name!r}: {expected} expected, found {type(value[name]).__name__}")


def _check_node(node: Mapping[str, Any], metadata: Mapping[str, Any], where: str) -> None:
    if not 0 <= node["ctx_idx"] < len(metadata["prompt_tokens"]):
        raise _broken(where, f"position {node['ctx_idx']} is outside the prompt")
    for name in ("influence", "activation"):
        if node.get(name) is not None and not _is_number(node[name]):
            raise _broken(where, f"{name!r}: a finite number or null expected, found {node[name]!r}")
    if node["feature_type"] == LOGIT and not _LOGIT_LABEL.fullmatch(node["clerp"]):
        raise _broken(where, f"a logit needs a clerp like 'Output \" Mary\" (p=0.123)', found {node['clerp']!r}")
    if node["feature_type"] == FEATURE:
        _check_feature(node, metadata, where)


def _check_feature(node: Mapping[str, Any], metadata: Mapping[str, Any], where: str) -> None:
    parts = node["node_id"].split("_")
    if len(parts) != 3 or not all(re.fullmatch(r"\d+", part) for part in parts):
        raise _broken(where, "a feature's id is layer_feature_position, three whole numbers")
    layer, feature, position = map(int, parts)
    if str(node["layer"]) != str(layer) or node["ctx_idx"] != position:
        raise _broken(where, f"its id and its layer {node['layer']!r} and position {node['ctx_idx']} disagree")
    if node["jsNodeId"] != f"{layer}_{feature}-0":
        raise _broken(where, f"jsNodeId {layer}_{feature}-0 expected, found {node['jsNodeId']!r}")
    if metadata.get("schema_version") == 1 and node["feature"] != cantor(layer, feature):
        raise _broken(where, f"feature {cantor(layer, feature)} (paired) expected, found {node['feature']}")
    if node["feature"] is not None and abs(node["feature"]) > LARGEST:
        raise _broken(where, f"feature {node['feature']} exceeds 2^53 - 1, which readers cannot hold")


def _check_link(link: Mapping[str, Any], ids: set[str], where: str) -> None:
    for end in ("source", "target"):
        if link[end] not in ids:
            raise _broken(where, f"its {end} is no node of the graph")
    if not _is_number(link["weight"]):
        raise _broken(where, f"a finite weight expected, found {link['weight']}")


def _is_number(value: Any) -> bool:
    # Whole numbers in JSON may be larger than any float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _broken(where: str, what: str) -> GossamerError:
    return GossamerError(f"attribution graph: {where}: {what}")
