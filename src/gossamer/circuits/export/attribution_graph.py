"""A circuit on one prompt as the attribution-graph JSON that Neuronpedia and circuit-tracer read.

A node becomes one feature node at each position of its role, an error node one of the kind that readers draw as the
error of an MLP, whatever its site; its id names the site, so that it equals no feature's (elsewhere it can). Tokens and
the two outputs become nodes too.
Neuronpedia's page opens no graph whose features all lie in layer 0: such a graph gets one node more, of the kind that
readers call unknown and without links, for all that is not in the circuit.

Role-level edges are put on the prompt's positions as follows. The weight of an edge is shared equally among the pairs
(position of the source, position of the target) in which the source does not come after the target, so that the links
of an edge sum to its weight; an edge without such a pair has no link in this prompt. An edge to a metric that compares
the answers becomes two links, half its weight to the answer and minus half to the wrong answer: of the logit difference
that is the effect on each of the two logits less their mean. An edge to KL, which is of all tokens, has none.

Format: attribution graphs of Anthropic, circuit-tracer and Neuronpedia, schema_version 1.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.edge import Edge, QKEdge
from gossamer.circuits.export.numbering import Numbering, cantor
from gossamer.circuits.export.prompt import GraphPrompt, Output
from gossamer.circuits.export.validation import ERROR, FEATURE, LOGIT, TOKEN, UNKNOWN, validate_attribution_graph
from gossamer.errors import UsageError
from gossamer.features import feature
from gossamer.features.feature import Feature, Node
from gossamer.files import read_json, write_json
from gossamer.model.site import Site
from gossamer.results.values import to_json
from gossamer.tasks.metric import KL

# What Neuronpedia takes in names of models and graphs.
_NAME = re.compile(r"[a-zA-Z0-9_.-]+")
_ERROR_ID = re.compile(r"(?P<layer>\d+)_error_(?P<kind>[a-z_]+)_(?P<position>\d+)")


class PlacedNode(NamedTuple):
    """A node of a circuit at one position of a prompt. Prints as `resid_post.7/123@S2 at position 5`."""

    node: Node
    position: int

    def __str__(self) -> str:
        return f"{self.node} at position {self.position}"


def to_attribution_graph(
    circuit: Circuit,
    prompt: GraphPrompt,
    *,
    widths: Mapping[Site, int],
    n_layers: int,
    scan: str | None = None,
    slug: str | None = None,
    source_set: str | None = None,
) -> dict[str, Any]:
    """The graph of `circuit` on `prompt`.

    Sites of one layer share its feature numbers, one dictionary's after another's; ``metadata.gossamer`` says which are
    whose, and holds the roles of the tokens and `edges` between roles and `qk` as the circuit's file has them: links
    have no room for the heads that carried them. `influence` is cumulative, as readers expect: the share of the sum of
    |score| that a node and all stronger ones have together (null without scores). Groups are the reader's supernodes,
    each of their nodes at every position of its role; these and the outputs are pinned, as readers draw no others.

    Args:
        circuit: with its edges.
        prompt: tokens, roles, outputs, and activations if known.
        widths: number of latents of the dictionary at each of the circuit's sites.
        n_layers: of the model; the outputs stand at layer n_layers + 1.
        scan: the model's name at the reader, default made from the circuit's; readers look feature pages up by it.
        slug: name of the graph in addresses, default made from model and task.
        source_set: the set of dictionaries on Neuronpedia whose latents have the graph's feature numbers.

    Raises:
        UsageError: a site without layer or width, beyond the model's layers, a latent outside its dictionary, or a name
            that Neuronpedia refuses.
        GossamerError: the graph would not be valid (an edge of a node that is not in the circuit).
    """
    names = {"slug": _name_from(slug or f"{circuit.model}-{circuit.task}")}
    names["scan"] = scan or _name_from(circuit.model.rsplit("/", 1)[-1])
    _require_names(names if source_set is None else {**names, "source_set": source_set})
    numbering = Numbering.of(circuit.sites, widths)
    beyond = [site for site, block in numbering.blocks.items() if block.layer >= n_layers]
    if beyond:
        raise UsageError(f"attribution graph: a model of {n_layers} layers has no site {beyond[0]}; check n_layers")
    features = [_feature_node(*node, numbering, prompt) for node in _placed(circuit, prompt)]
    outputs = [_logit_node(output, prompt, n_layers) for output in (prompt.answer, prompt.incorrect)]
    supernodes = list(_supernodes(circuit, prompt, numbering))
    pinned = [node for _, *nodes in supernodes for node in nodes]
    pinned += [node["node_id"] for node in outputs] if pinned else []
    later = any(node["layer"] != "0" for node in features)
    graph = {
        "metadata": {
            **names,
            "transcoder_list": [],
            "prompt_tokens": list(prompt.tokens),
            "prompt": "".join(prompt.tokens),
            "schema_version": 1,
            "info": {"description": f"circuit of {circuit.task}", "generator": {"name": "gossamer"}},
            **({} if source_set is None else {"feature_details": {"neuronpedia_source_set": source_set}}),
            "gossamer": _own_metadata(circuit, prompt, numbering),
        },
        "qParams": {"pinnedIds": pinned, "supernodes": supernodes, "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": [*_token_nodes(prompt), *features, *([] if later else [_unknown_node(prompt, n_layers)]), *outputs],
        "links": list(_links(circuit, prompt, numbering, [node["node_id"] for node in outputs])),
    }
    validate_attribution_graph(graph)
    return graph


def _own_metadata(circuit: Circuit, prompt: GraphPrompt, numbering: Numbering) -> dict[str, Any]:
    """What the format has no room for: whose feature numbers are whose, roles, and heads and pairs behind edges."""
    return {
        "sites": numbering.to_json(),
        "roles": list(prompt.roles),
        "edges": to_json(circuit.edges, tuple[Edge, ...]),
        "qk": to_json(circuit.qk, tuple[QKEdge, ...]),
    }


def save_attribution_graph(path: str | Path, graph: Mapping[str, Any]) -> Path:
    """Validate `graph` and write it, atomically. Returns the path."""
    validate_attribution_graph(graph)
    return write_json(path, graph)


def read_attribution_graph(path: str | Path) -> tuple[PlacedNode, ...]:
    """The circuit's nodes in a graph that :func:`save_attribution_graph` wrote, in order.

    Raises:
        UsageError: no such file, or a graph of another program (whose features name no site and no role).
        GossamerError: damaged, or not a valid graph.
    """
    graph = read_json(path)
    validate_attribution_graph(graph)
    try:
        placed = [one for one, _ in placed_nodes(graph)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path}: a graph written by gossamer expected, found one without its sites and roles in the metadata"
        ) from error
    return tuple(sorted(placed, key=lambda one: (one.node.feature, one.position)))


def placed_nodes(graph: Mapping[str, Any]) -> Iterator[tuple[PlacedNode, Mapping[str, Any]]]:
    """The circuit's nodes in a graph of gossamer's, each with what the graph says of it, in the graph's order."""
    own = graph["metadata"]["gossamer"]
    numbering, roles = Numbering.from_json(own["sites"]), dict(enumerate(own["roles"]))
    for node in graph["nodes"]:
        if node["feature_type"] == FEATURE:
            layer, number, position = map(int, node["node_id"].split("_"))
            yield PlacedNode(Node(numbering.feature(layer, number), roles.get(position)), position), node
        elif parts := _ERROR_ID.fullmatch(node["node_id"]):
            site, position = Site(parts["kind"], int(parts["layer"])), int(parts["position"])
            yield PlacedNode(Node(Feature(site, feature.ERROR), roles.get(position)), position), node


def _placed(circuit: Circuit, prompt: GraphPrompt) -> Iterator[tuple[PlacedNode, float | None]]:
    """Each node at each position of its role, with its influence."""
    influence = _influence(circuit)
    for node in circuit.keys():  # noqa: SIM118 - no mapping
        for position in _positions(prompt, node.role):
            yield PlacedNode(node, position), influence.get(node)


def _positions(prompt: GraphPrompt, role: str | None) -> list[int]:
    return [position for position, held in enumerate(prompt.roles) if held == role]


def _influence(circuit: Circuit) -> dict[Node, float]:
    """Cumulative share of the sum of |score|, strongest first; nodes without a score are left out."""
    sizes = {one.node: abs(one.score) for one in circuit.nodes if one.score is not None}
    total, running = sum(sizes.values()), 0.0
    shares: dict[Node, float] = {}
    for node in sorted(sizes, key=lambda node: -sizes[node]) if total > 0 else ():
        running += sizes[node] / total
        shares[node] = min(running, 1.0)
    return shares


def _node_id(numbering: Numbering, node: Node, position: int) -> str:
    if node.is_error:
        return f"{node.site.layer}_error_{node.site.kind}_{position}"
    layer, number = numbering.number(node.feature)
    return f"{layer}_{number}_{position}"


def _supernodes(circuit: Circuit, prompt: GraphPrompt, numbering: Numbering) -> Iterator[list[str]]:
    """Each group as its label and the ids of its nodes at their positions in the prompt."""
    for group in circuit.groups:
        placed = [(node, position) for node in group.nodes for position in _positions(prompt, node.role)]
        if placed:
            yield [group.label, *(_node_id(numbering, *one) for one in placed)]


def _node(
    node_id: str, js_id: str, feature: int, layer: str, position: int, kind: str, clerp: str, prompt: GraphPrompt
) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "jsNodeId": js_id,
        "feature": feature,
        "layer": layer,
        "ctx_idx": position,
        "reverse_ctx_idx": len(prompt.tokens) - 1 - position,
        "feature_type": kind,
        "clerp": clerp,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "influence": None,
        "activation": None,
    }


def _feature_node(
    placed: PlacedNode, influence: float | None, numbering: Numbering, prompt: GraphPrompt
) -> dict[str, Any]:
    feature, role = placed.node
    node_id, activations = _node_id(numbering, placed.node, placed.position), prompt.activations.get(feature)
    if feature.is_error:
        layer, js_id, paired, kind = feature.site.layer or 0, node_id.rpartition("_")[0], -1, ERROR
    else:
        layer, number = numbering.number(feature)
        js_id, paired, kind = f"{layer}_{number}", cantor(layer, number), FEATURE
    label = f"{feature} at {role}"
    written = _node(node_id, f"{js_id}-0", paired, str(layer), placed.position, kind, label, prompt)
    activation = None if activations is None else activations[placed.position]
    return {**written, "influence": influence, "activation": activation}


def _token_nodes(prompt: GraphPrompt) -> Iterator[dict[str, Any]]:
    for position, (token, token_id) in enumerate(zip(prompt.tokens, prompt.token_ids, strict=True)):
        node_id, label = f"E_{token_id}_{position}", f'Emb: "{_visible(token)}"'
        yield _node(node_id, f"E_{token_id}-{position}", position, "E", position, TOKEN, label, prompt)


def _logit_node(output: Output, prompt: GraphPrompt, n_layers: int) -> dict[str, Any]:
    last, layer = len(prompt.tokens) - 1, n_layers + 1
    label = f'Output "{_visible(output.token)}" (p={output.probability:.3f})'
    node_id, js_id = f"{layer}_{output.token_id}_{last}", f"L_{output.token_id}-{last}"
    written = _node(node_id, js_id, output.token_id, str(layer), last, LOGIT, label, prompt)
    return {**written, "token_prob": output.probability, "is_target_logit": output is prompt.answer}


def _unknown_node(prompt: GraphPrompt, n_layers: int) -> dict[str, Any]:
    last, layer = len(prompt.tokens) - 1, max(1, n_layers - 1)
    node_id, js_id = f"{layer}_unknown_{last}", f"{layer}_unknown-0"
    return _node(node_id, js_id, -1, str(layer), last, UNKNOWN, "not in the circuit", prompt)


def _require_names(names: Mapping[str, str]) -> None:
    """Refuse names that Neuronpedia does not take."""
    if wrong := [f"{what} {name!r}" for what, name in names.items() if not _NAME.fullmatch(name)]:
        raise UsageError(f"attribution graph: letters, digits, '_', '-' and '.' expected, found {wrong[0]}; rename it")


def _name_from(text: str) -> str:
    """A name that Neuronpedia takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "graph"


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace("\t", "→")


def _links(circuit: Circuit, prompt: GraphPrompt, numbering: Numbering, outputs: list[str]) -> Iterator[dict[str, Any]]:
    """The edges on the prompt's positions; `outputs` are the ids of the answer and of the wrong answer."""
    for edge in circuit.edges:
        end = edge.target
        if end == KL.name:
            continue
        targets = [len(prompt.tokens) - 1] if isinstance(end, str) else _positions(prompt, end.role)
        pairs = [(p, q) for p in _positions(prompt, edge.source.role) for q in targets if p <= q]
        for source, target in pairs:
            weight = edge.weight / len(pairs)
            link = {"source": _node_id(numbering, edge.source, source)}
            if isinstance(end, str):
                yield {**link, "target": outputs[0], "weight": weight / 2}
                yield {**link, "target": outputs[1], "weight": -weight / 2}
            else:
                yield {**link, "target": _node_id(numbering, end, target), "weight": weight}
