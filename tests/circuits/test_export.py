"""Attribution graphs: valid by an independent schema, ids that never collide, nodes that come back."""

import copy
import json
import random
import re
from dataclasses import replace
from math import isqrt
from pathlib import Path

import jsonschema
import pytest
import torch
from circuit_lab import node_at, sites_of
from graph_schema import SCHEMA
from tiny_splice import some_nodes, tiny_examples, tiny_model, tiny_splice

from gossamer.circuits.circuit import Circuit, CircuitNode
from gossamer.circuits.edge import Edge
from gossamer.circuits.edges import circuit_edges
from gossamer.circuits.export import (
    GraphPrompt,
    Output,
    PlacedNode,
    graph_prompt,
    read_attribution_graph,
    save_attribution_graph,
    to_attribution_graph,
    validate_attribution_graph,
)
from gossamer.circuits.group import NodeGroup
from gossamer.errors import GossamerError, UsageError
from gossamer.features import Feature
from gossamer.features.feature import ERROR
from gossamer.model.site import Site
from gossamer.results.values import from_json
from gossamer.tasks.metric import LOGIT_DIFFERENCE

METRIC = LOGIT_DIFFERENCE.name

SITES = sites_of("resid_post.0", "z.3", "resid_post.3", "resid_post.5")
Z_3 = SITES[1]
WIDTHS = dict(zip(SITES, (40, 17, 1_000_000, 9), strict=True))
PROMPT = GraphPrompt(
    tokens=("<bos>", "When", " John", " and", " Mary", " met", ","),
    token_ids=(0, 5, 17, 6, 21, 7, 5),
    roles=(None, "gap1", "S", "gap2", "IO", "gap3", "gap3"),
    answer=Output(" Mary", 21, 0.625),
    incorrect=Output(" John", 17, 0.1234),
    activations={Feature(Z_3, 2): [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]},
)


def _circuit(*nodes: CircuitNode, edges: tuple[Edge, ...] = ()) -> Circuit:
    return Circuit(nodes, "tiny", "ioi", SITES, ("gap1", "S", "gap2", "IO", "gap3"), edges)


CIRCUIT = _circuit(
    CircuitNode(node_at("resid_post.0", "S", 3), 0.1),
    CircuitNode(node_at("z.3", "gap3", 2), -0.5),
    CircuitNode(node_at("resid_post.3", "gap3", 2), 0.3),
    CircuitNode(node_at("resid_post.5", "gap3", 8), 0.1),
    edges=(
        Edge(node_at("resid_post.0", "S", 3), node_at("z.3", "gap3", 2), 0.5),
        Edge(node_at("z.3", "gap3", 2), node_at("resid_post.3", "gap3", 2), -3.0),
        Edge(node_at("resid_post.3", "gap3", 2), METRIC, 2.0),
        # IO comes before S in other prompts of the task, not in this one.
        Edge(node_at("z.3", "gap3", 2), node_at("resid_post.3", "S", 7), 1.0),
    ),
)


def _graph(circuit: Circuit = CIRCUIT, prompt: GraphPrompt = PROMPT, **options: object) -> dict:
    return to_attribution_graph(circuit, prompt, **{"widths": WIDTHS, "n_layers": 6, **options})


def _by_kind(graph: dict, kind: str) -> list[dict]:
    return [node for node in graph["nodes"] if node["feature_type"] == kind]


def _unpaired(number: int) -> tuple[int, int]:
    """Inverse of Cantor's pairing."""
    diagonal = (isqrt(8 * number + 1) - 1) // 2
    second = number - diagonal * (diagonal + 1) // 2
    return diagonal - second, second


def test_the_graph_keeps_the_schema_and_its_own_rules() -> None:
    graph = _graph()
    jsonschema.validate(graph, SCHEMA)
    validate_attribution_graph(graph)
    json.dumps(graph, allow_nan=False)


def test_every_node_stands_at_each_position_of_its_role() -> None:
    features = _by_kind(_graph(), "cross layer transcoder")
    # z.3 comes first in layer 3: its 17 latents are features 0 to 16, resid_post.3 starts at 17.
    assert [node["node_id"] for node in features] == [
        "0_3_2",
        "3_2_5",
        "3_2_6",
        "3_19_5",
        "3_19_6",
        "5_8_5",
        "5_8_6",
    ]
    assert [node["jsNodeId"] for node in features[1:4]] == ["3_2-0", "3_2-0", "3_19-0"]
    assert [_unpaired(node["feature"]) for node in features[1:4]] == [(3, 2), (3, 2), (3, 19)]
    assert [node["layer"] for node in features] == ["0", "3", "3", "3", "3", "5", "5"]
    assert [node["activation"] for node in features] == [None, 0.5, 0.6, None, None, None, None]
    assert features[3]["clerp"] == "resid_post.3/2 at gap3"


def test_groups_are_supernodes_whose_nodes_are_pinned() -> None:
    z_3, resid_3, _ = (one.node for one in CIRCUIT.nodes[1:])
    grouped = replace(CIRCUIT, groups=(NodeGroup((resid_3, z_3), "after names", 0.1),))
    asked = _graph(grouped)["qParams"]
    nodes = ["3_19_5", "3_19_6", "3_2_5", "3_2_6"]
    outputs = [node["node_id"] for node in _by_kind(_graph(), "logit")]
    assert asked["supernodes"] == [["after names", *nodes]]
    assert asked["pinnedIds"] == [*nodes, *outputs]
    jsonschema.validate(_graph(grouped), SCHEMA)
    assert (_graph()["qParams"]["supernodes"], _graph()["qParams"]["pinnedIds"]) == ([], [])


def test_readers_find_a_layer_above_0() -> None:
    """Neuronpedia's page takes the largest layer of what is no output, and 0 for none: it opens no such graph."""

    def largest(graph: dict) -> int:
        return max(int(node["layer"]) for node in graph["nodes"] if node["feature_type"] not in ("logit", "embedding"))

    first = _circuit(CircuitNode(node_at("resid_post.0", "S", 3), 0.1), edges=CIRCUIT.edges[:0])
    for circuit in (first, _circuit()):
        for graph, layers in ((_graph(circuit), 6), (_graph(replace(circuit, sites=SITES[:1]), n_layers=1), 1)):
            jsonschema.validate(graph, SCHEMA)
            assert largest(graph) == max(1, layers - 1)
            (unknown,) = _by_kind(graph, "unknown")
            assert (unknown["clerp"], unknown["ctx_idx"]) == ("not in the circuit", 6)
            assert not any(unknown["node_id"] in (link["source"], link["target"]) for link in graph["links"])
    assert not _by_kind(_graph(), "unknown")


@pytest.mark.parametrize(
    ("model", "scan"),
    [("bundled:spool", "bundled-spool"), ("google/gemma-2-2b", "gemma-2-2b"), ("a b/ü", "graph"), ("x" * 9, "x" * 9)],
)
def test_names_are_those_that_neuronpedia_takes(model: str, scan: str) -> None:
    metadata = _graph(replace(CIRCUIT, model=model, task="über/1"))["metadata"]
    assert metadata["scan"] == scan
    assert re.fullmatch(r"[a-zA-Z0-9_.-]+", metadata["slug"])
    assert "feature_details" not in metadata


@pytest.mark.parametrize("options", [{"scan": "google/gemma-2-2b"}, {"source_set": "a b"}, {"scan": "bundled:spool"}])
def test_names_that_neuronpedia_refuses_are_refused(options: dict) -> None:
    with pytest.raises(UsageError, match=r"letters, digits, '_', '-' and '.' expected, found"):
        _graph(**options)


def test_a_set_of_dictionaries_on_neuronpedia_is_named() -> None:
    graph = _graph(scan="gemma-2-2b", source_set="gemmascope-res-16k")
    jsonschema.validate(graph, SCHEMA)
    assert graph["metadata"]["scan"] == "gemma-2-2b"
    assert graph["metadata"]["feature_details"] == {"neuronpedia_source_set": "gemmascope-res-16k"}


def test_influence_is_cumulative_with_the_strongest_first() -> None:
    features = {node["node_id"]: node["influence"] for node in _by_kind(_graph(), "cross layer transcoder")}
    assert features["3_2_5"] == features["3_2_6"] == pytest.approx(0.5)
    assert features["3_19_5"] == pytest.approx(0.8)
    assert features["0_3_2"] == pytest.approx(0.9)
    assert features["5_8_5"] == pytest.approx(1.0)
    without = _graph(_circuit(CircuitNode(node_at("z.3", "S", 1)), CircuitNode(node_at("z.3", "IO", 1), 0.0)))
    assert all(node["influence"] is None for node in without["nodes"])


def test_tokens_and_outputs() -> None:
    graph = _graph()
    tokens = _by_kind(graph, "embedding")
    assert [node["node_id"] for node in tokens][:3] == ["E_0_0", "E_5_1", "E_17_2"]
    assert tokens[4]["clerp"] == 'Emb: " Mary"'
    answer, incorrect = _by_kind(graph, "logit")
    assert (answer["node_id"], answer["clerp"]) == ("7_21_6", 'Output " Mary" (p=0.625)')
    assert (incorrect["node_id"], incorrect["clerp"]) == ("7_17_6", 'Output " John" (p=0.123)')
    assert (answer["jsNodeId"], answer["layer"], answer["is_target_logit"]) == ("L_21-6", "7", True)
    assert incorrect["is_target_logit"] is False


def test_links_of_an_edge_go_forward_and_sum_to_its_weight() -> None:
    graph = _graph()
    positions = {node["node_id"]: node["ctx_idx"] for node in graph["nodes"]}
    assert all(positions[link["source"]] <= positions[link["target"]] for link in graph["links"])
    weights = {(link["source"], link["target"]): link["weight"] for link in graph["links"]}
    assert len(weights) == len(graph["links"])
    assert weights[("0_3_2", "3_2_5")] == weights[("0_3_2", "3_2_6")] == 0.25
    between = {pair: w for pair, w in weights.items() if pair[0].startswith("3_2_") and pair[1].startswith("3_19_")}
    assert between == {("3_2_5", "3_19_5"): -1.0, ("3_2_5", "3_19_6"): -1.0, ("3_2_6", "3_19_6"): -1.0}
    to_answer = sum(w for (_, target), w in weights.items() if target == "7_21_6")
    to_wrong = sum(w for (_, target), w in weights.items() if target == "7_17_6")
    assert (to_answer, to_wrong) == (1.0, -1.0)


@pytest.mark.parametrize("value", ["3", None, 1.5, True, [3], {}])
def test_a_graph_whose_own_metadata_are_damaged_is_refused(tmp_path: Path, value: object) -> None:
    graph = _graph()
    graph["metadata"]["gossamer"]["sites"]["z.3"]["offset"] = value
    with pytest.raises(UsageError, match="a graph written by gossamer expected"):
        read_attribution_graph(save_attribution_graph(tmp_path / "graph.json", graph))


def test_weights_that_no_float_holds_are_refused() -> None:
    graph = _graph()
    graph["links"][0]["weight"] = 10**400
    with pytest.raises(GossamerError, match="a finite weight expected"):
        validate_attribution_graph(graph)


def test_errors_are_drawn_as_errors_and_come_back(tmp_path: Path) -> None:
    error, latent = node_at("z.3", "gap3", ERROR), node_at("z.3", "gap3", 2)
    end = node_at("resid_post.3", "gap3", 2)
    both = _circuit(
        CircuitNode(error, 0.3), CircuitNode(latent, 0.1), CircuitNode(end, 0.2), edges=(Edge(error, end, 1.5),)
    )
    graph = _graph(both, replace(PROMPT, activations={Feature(Z_3, ERROR): [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}))
    jsonschema.validate(graph, SCHEMA)
    drawn = _by_kind(graph, "mlp reconstruction error")
    assert [(node["node_id"], node["layer"], node["feature"]) for node in drawn] == [
        ("3_error_z_5", "3", -1),
        ("3_error_z_6", "3", -1),
    ]
    assert [node["activation"] for node in drawn] == [5, 6]
    weight = sum(link["weight"] for link in graph["links"] if link["source"].startswith("3_error_z"))
    assert weight == pytest.approx(1.5)
    placed = read_attribution_graph(save_attribution_graph(tmp_path / "graph.json", graph))
    assert {one.node for one in placed} == {error, latent, end}
    assert len(placed) == 6


def test_round_trip(tmp_path: Path) -> None:
    path = save_attribution_graph(tmp_path / "graph.json", _graph())
    expected = {
        PlacedNode(one, position)
        for one in CIRCUIT.keys()  # noqa: SIM118 - no mapping
        for position, role in enumerate(PROMPT.roles)
        if role == one.role
    }
    assert set(read_attribution_graph(path)) == expected
    assert list(read_attribution_graph(path)) == sorted(expected)
    assert str(min(expected)) == "resid_post.0/3@S at position 2"


@pytest.mark.parametrize("seed", range(30))
def test_ids_never_collide_and_every_node_comes_back(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    kinds = ["resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post"]
    n_layers = draw.randint(1, 4)
    sites = tuple(Site(kind, layer) for layer in range(n_layers) for kind in kinds if draw.random() < 0.6) or (Z_3,)
    widths = {site: draw.choice([1, 2, 10, 11, 111, 65_536, 20_000_000]) for site in sites}
    roles = ["a", "b", "c"]
    length = draw.randint(2, 12)
    prompt = GraphPrompt(
        tokens=tuple("x" for _ in range(length)),
        token_ids=tuple(draw.randrange(12) for _ in range(length)),
        roles=(None, *(draw.choice(roles) for _ in range(length - 1))),
        answer=Output("x", 1, 0.5),
        incorrect=Output("y", 11, 0.25),
    )
    keys = {
        node_at(site, draw.choice(roles), draw.choice([0, widths[site] - 1, draw.randrange(widths[site])]))
        for site in sites
        for _ in range(25)
    }
    nodes = tuple(CircuitNode(key, draw.uniform(-1, 1)) for key in sorted(keys))
    pairs = [(draw.choice(nodes).node, draw.choice([draw.choice(nodes).node, METRIC])) for _ in range(20)]
    edges = tuple(Edge(source, target, draw.uniform(-1, 1)) for source, target in pairs)
    circuit = Circuit(nodes, "tiny", "random", sites, tuple(roles), edges)

    graph = to_attribution_graph(circuit, prompt, widths=widths, n_layers=n_layers)

    jsonschema.validate(graph, SCHEMA)
    ids = [node["node_id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids)
    features = _by_kind(graph, "cross layer transcoder")
    latents = {(node["clerp"].split(" at ")[0], node["feature"], node["jsNodeId"]) for node in features}
    assert len({name for name, _, _ in latents}) == len({n for _, n, _ in latents}) == len({j for _, _, j in latents})
    placed = read_attribution_graph(save_attribution_graph(tmp_path / "graph.json", graph))
    assert {one.node for one in placed} == {key for key in keys if key.role in prompt.roles}
    assert len(placed) == len(features)


def test_a_layer_zero_feature_has_no_id_that_an_error_node_could_have() -> None:
    # Elsewhere the error of layer 17 at position 5 and feature 17 of layer 0 at position 5 are both "0_17_5".
    graph = _graph(_circuit(CircuitNode(node_at("resid_post.0", "gap3", 17))))
    kinds = {node["feature_type"] for node in graph["nodes"]}
    assert kinds == {"cross layer transcoder", "embedding", "logit", "unknown"}
    clashing = {**graph["nodes"][0], "node_id": "0_17_5", "feature_type": "mlp reconstruction error", "feature": -1}
    with pytest.raises(GossamerError, match="another node"):
        validate_attribution_graph({**graph, "nodes": [*graph["nodes"], clashing]})


def _feature(graph: dict) -> dict:
    return _by_kind(graph, "cross layer transcoder")[0]


def _logit(graph: dict) -> dict:
    return _by_kind(graph, "logit")[0]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda g: g.pop("links"), "no 'links'"),
        (lambda g: g["metadata"].pop("slug"), "no 'slug'"),
        (lambda g: g["metadata"].update(prompt_tokens=[1]), "strings expected"),
        (lambda g: g.update(nodes={}), "list expected"),
        (lambda g: g["nodes"].append("node"), "an object expected"),
        (lambda g: g["nodes"][0].pop("clerp"), "no 'clerp'"),
        (lambda g: g["nodes"][0].update(feature=1.5), "int or null expected"),
        (lambda g: g["nodes"][0].update(feature=True), "found bool"),
        (lambda g: g["nodes"].append(g["nodes"][0]), "another node"),
        (lambda g: g["nodes"][0].update(ctx_idx=7), "outside the prompt"),
        (lambda g: g["nodes"][0].update(influence=float("nan")), "finite number"),
        (lambda g: _logit(g).update(clerp="Mary"), "needs a clerp"),
        (lambda g: _logit(g).update(clerp='Output " Mary" (p=nan)'), "needs a clerp"),
        (lambda g: _feature(g).update(node_id="0_lor_3_2"), "layer_feature_position"),
        (lambda g: _feature(g).update(layer="1"), "disagree"),
        (lambda g: _feature(g).update(ctx_idx=3), "disagree"),
        (lambda g: _feature(g).update(jsNodeId="0_3-2"), "jsNodeId"),
        (lambda g: _feature(g).update(feature=3), "paired"),
        (lambda g: g["links"][0].update(source="0_3_3"), "source is no node"),
        (lambda g: g["links"][0].update(target="9_9_9"), "target is no node"),
        (lambda g: g["links"][0].update(weight=float("inf")), "finite weight"),
        (lambda g: g["links"][0].update(weight="1"), "float expected"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_one_line(damage, says: str, tmp_path: Path) -> None:
    graph = copy.deepcopy(_graph())
    damage(graph)
    with pytest.raises(GossamerError, match=says) as caught:
        validate_attribution_graph(graph)
    assert "\n" not in str(caught.value)
    with pytest.raises(GossamerError):
        save_attribution_graph(tmp_path / "graph.json", graph)
    assert not list(tmp_path.iterdir())


def test_an_edge_of_a_node_that_is_not_in_the_circuit_is_refused() -> None:
    edge = Edge(node_at("z.3", "IO", 4), METRIC, 1.0)
    with pytest.raises(GossamerError, match="source is no node"):
        _graph(_circuit(CircuitNode(node_at("z.3", "gap3", 4)), edges=(edge,)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_layers": 5}, "no site resid_post.5"),
        ({"widths": {**WIDTHS, Z_3: 2}}, "latent 2 of z.3 is outside"),
        ({"widths": {Z_3: 17}}, "resid_post.0 needs"),
        ({"widths": {**WIDTHS, Z_3: 2**28}}, "exceeds"),
    ],
)
def test_impossible_requests_are_usage_errors(options: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        _graph(**options)


def test_a_prompt_must_agree_with_itself() -> None:
    with pytest.raises(UsageError, match="one role"):
        GraphPrompt(("a", "b"), (0, 1), ("S",), Output("c", 2, 0.5), Output("d", 3, 0.5))
    with pytest.raises(UsageError, match="activations"):
        GraphPrompt(("a",), (0,), ("S",), Output("c", 2, 0.5), Output("d", 3, 0.5), {Feature(Z_3, 0): [1.0, 2.0]})
    with pytest.raises(UsageError, match="same token"):
        GraphPrompt(("a",), (0,), ("S",), Output("c", 2, 0.5), Output("c", 2, 0.5))


def test_a_graph_of_another_program_is_not_read(tmp_path: Path) -> None:
    graph = _graph()
    del graph["metadata"]["gossamer"]
    path = save_attribution_graph(tmp_path / "graph.json", graph)
    with pytest.raises(UsageError, match="written by gossamer"):
        read_attribution_graph(path)


def test_a_truncated_graph_is_refused(tmp_path: Path) -> None:
    path = save_attribution_graph(tmp_path / "graph.json", _graph())
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(GossamerError, match="damage"):
        read_attribution_graph(path)


def test_names_become_addresses() -> None:
    circuit = Circuit((), "org/tiny model", "ioi", SITES, ("S",))
    assert _graph(circuit)["metadata"]["slug"] == "org-tiny-model-ioi"
    assert _graph(circuit, slug="../a b")["metadata"]["slug"] == "a-b"
    assert _graph(circuit, scan="gpt2-small")["metadata"]["scan"] == "gpt2-small"


def test_a_prompt_of_the_task_is_shown_as_the_model_sees_it(tmp_path: Path) -> None:
    splice = tiny_splice(tiny_model(), tiny_examples(), ("resid_post.0", "z.1", "resid_post.1"))
    model, examples, nodes = splice.model, splice.examples, some_nodes(splice, 12)
    prompt = graph_prompt(splice, nodes, 1)
    # Prompt 1 is padded from 5 tokens to 7.
    ids = examples.clean.tokens.ids[1, :5].tolist()
    assert prompt.token_ids == tuple(ids)
    assert prompt.tokens == tuple(f"w{i}" for i in ids)
    assert prompt.roles == (None, "B", "A", "B", "END")
    with torch.no_grad():
        probabilities = model.logits(examples.clean.tokens, at=examples.clean.answer_position)[1].softmax(dim=-1)
        values = model.capture(examples.clean.tokens, list(splice.dictionaries))
    assert (prompt.answer.token_id, prompt.incorrect.token_id) == (2, 12)
    assert prompt.answer.probability == pytest.approx(probabilities[2].item(), rel=1e-5)
    assert prompt.incorrect.probability == pytest.approx(probabilities[12].item(), rel=1e-5)
    keys = nodes.keys()
    assert set(prompt.activations) == {key.feature for key in keys}
    for site, dictionary in splice.dictionaries.items():
        latents = dictionary.encode_dense(values[site])[1, :5]
        for latent in nodes.latent[nodes.site == nodes.sites.index(site)].tolist():
            assert prompt.activations[site, latent] == pytest.approx(latents[:, latent].tolist(), abs=1e-9)

    circuit = Circuit.from_nodes(nodes, torch.arange(len(nodes)), model="tiny", task="by hand")
    circuit = replace(circuit, edges=circuit_edges(splice, nodes))
    graph = to_attribution_graph(circuit, prompt, widths=dict.fromkeys(circuit.sites, 20), n_layers=3)
    jsonschema.validate(graph, SCHEMA)
    assert graph["links"]
    # Links are of positions and have weights alone: edges between roles stand in the metadata, with their heads.
    assert from_json(graph["metadata"]["gossamer"]["edges"], tuple[Edge, ...]) == circuit.edges
    assert any(edge.heads for edge in circuit.edges)
    placed = read_attribution_graph(save_attribution_graph(tmp_path / "graph.json", graph))
    assert {one.node for one in placed} == set(keys)
    with pytest.raises(UsageError, match="prompts 0 to 5"):
        graph_prompt(splice, nodes, 6)
