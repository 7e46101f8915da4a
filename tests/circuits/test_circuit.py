"""A circuit on disk: what is written comes back, what was changed or damaged is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gossamer.circuits.circuit import Circuit, CircuitNode
from gossamer.circuits.edge import Edge, HeadShare
from gossamer.circuits.group import NodeGroup
from gossamer.circuits.nodes import Nodes
from gossamer.errors import GossamerError, UsageError
from gossamer.features import Feature, Node
from gossamer.files import write_json
from gossamer.model.site import Site
from gossamer.results import digest

SITES = (Site.parse("resid_post.1"), Site.parse("resid_post.10"))
ROLES = ("S", "END")


@pytest.fixture
def nodes() -> Nodes:
    return Nodes.from_grids(SITES, ROLES, [torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)])


@pytest.fixture
def circuit(nodes: Nodes) -> Circuit:
    chosen = torch.tensor([13, 5, 0, 9])
    scores = torch.tensor([0.5, -0.25, 1.0, 0.1], dtype=torch.float64)
    made = Circuit.from_nodes(
        nodes,
        chosen,
        model="tiny",
        task="ioi",
        scores=scores,
        provenance={"seed": 0, "method": {"name": "mask"}},
        measured={"faithfulness": 0.9},
    )
    heads = (HeadShare(3, 1, 2.5), HeadShare(2, 0, -1.0))
    edges = (Edge(made.keys()[0], made.keys()[-1], -0.125), Edge(made.keys()[1], "logit_diff", 2.0, 1.5, 0.5, heads))
    return Circuit(**{**vars(made), "edges": edges})


def test_from_nodes_is_in_execution_order_whatever_was_chosen_first(nodes: Nodes, circuit: Circuit) -> None:
    # resid_post.10 comes after resid_post.1 in the network though not in the alphabet.
    assert [str(node) for node in circuit.keys()] == [  # noqa: SIM118 - no mapping
        "resid_post.1/0@S",
        "resid_post.1/1@END",
        "resid_post.10/1@S",
        "resid_post.10/2@END",
    ]
    assert [node.score for node in circuit.nodes] == [1.0, -0.25, 0.1, 0.5]
    again = Circuit.from_nodes(nodes, torch.tensor([0, 5, 9, 13]), model="tiny", task="ioi")
    assert again.nodes == circuit.nodes
    assert all(node.score is None for node in again.nodes)


def test_save_and_load_give_back_everything(circuit: Circuit, tmp_path: Path) -> None:
    path = circuit.save(tmp_path / "circuit.json")
    assert Circuit.load(path) == circuit
    assert [node.score for node in Circuit.load(path).nodes] == [node.score for node in circuit.nodes]


def test_groups_are_kept_and_are_no_part_of_what_tells_circuits_apart(circuit: Circuit, tmp_path: Path) -> None:
    first, *_, last = (one.node for one in circuit.nodes)
    grouped = replace(circuit, groups=(NodeGroup((last, first), "names", 0.25),))
    path = grouped.save(tmp_path / "circuit.json")
    assert Circuit.load(path) == grouped
    body = json.loads(path.read_text())
    assert body["groups"] == [{"nodes": [str(last), str(first)], "label": "names", "effect": 0.25}]
    assert grouped.sha256 == circuit.sha256 == json.loads(circuit.save(path).read_text())["sha256"] != body["sha256"]
    assert "names" in grouped._repr_html_()
    assert "group" not in circuit._repr_html_()
    for wrong in ((first, first), (first, Node(first.feature, "END"))):
        with pytest.raises(UsageError, match="nodes of the circuit expected, each in one group at most"):
            replace(circuit, groups=(NodeGroup(wrong, "", 0.0),))
    body["groups"][0]["nodes"].append(str(first))
    del body["format"], body["sha256"]
    write_json(path, {"format": "gossamer.circuit.6", "sha256": digest(body), **body})
    with pytest.raises(GossamerError, match="a circuit file, found damage"):
        Circuit.load(path)


def test_saving_twice_gives_the_same_bytes(circuit: Circuit, tmp_path: Path) -> None:
    one, other = circuit.save(tmp_path / "a.json"), Circuit.load(tmp_path / "a.json").save(tmp_path / "b.json")
    assert one.read_bytes() == other.read_bytes()


def test_positions_are_those_of_the_same_keys(nodes: Nodes, circuit: Circuit) -> None:
    found = circuit.positions(nodes)
    assert [nodes.keys()[i] for i in found.tolist()] == circuit.keys()
    fewer = nodes.select(nodes.latent != 2)
    with pytest.raises(UsageError, match="1 of 4 nodes"):
        circuit.positions(fewer)


def test_features_forget_the_role() -> None:
    one, other = Feature(Site("z", 1), 3), Feature(Site("z", 2), 3)
    nodes = tuple(CircuitNode(Node(*node)) for node in ((one, "S"), (one, "END"), (other, "S")))
    assert Circuit(nodes, "m", "t", (one.site, other.site), ROLES).features == {one, other}


@pytest.mark.parametrize("tag", ["gossamer-circuit-1", "gossamer.circuit.2"])
def test_files_with_nodes_in_three_parts_load(circuit: Circuit, tmp_path: Path, tag: str) -> None:
    """As versions 1 and 2 wrote them, by hand."""
    body = {
        "nodes": [
            {"site": "resid_post.1", "role": "S", "latent": 0, "score": 1.0},
            {"site": "resid_post.1", "role": "END", "latent": 1, "score": -0.25},
            {"site": "resid_post.10", "role": "S", "latent": 1, "score": 0.1},
            {"site": "resid_post.10", "role": "END", "latent": 2, "score": 0.5},
        ],
        "model": "tiny",
        "task": "ioi",
        "sites": ["resid_post.1", "resid_post.10"],
        "roles": ["S", "END"],
        "edges": [
            {"source": ["resid_post.1", "S", 0], "target": ["resid_post.10", "END", 2], "weight": -0.125},
            {"source": ["resid_post.1", "END", 1], "target": ["logit_diff", "", 0], "weight": 2.0},
        ],
        "provenance": {"seed": 0, "method": {"name": "mask"}},
        "measured": {"faithfulness": 0.9},
    }
    path = write_json(tmp_path / "old.json", {"format": tag, "sha256": digest(body), **body})
    loaded = Circuit.load(path)
    bare = tuple(Edge(one.source, one.target, one.weight) for one in circuit.edges)
    assert loaded == replace(circuit, edges=bare)
    assert [node.score for node in loaded.nodes] == [1.0, -0.25, 0.1, 0.5]


def test_a_file_names_its_nodes(circuit: Circuit, tmp_path: Path) -> None:
    written = json.loads(circuit.save(tmp_path / "circuit.json").read_text())
    assert written["nodes"][0] == {"node": "resid_post.1/0@S", "score": 1.0}
    assert written["edges"][1] == {
        "source": "resid_post.1/1@END",
        "target": "logit_diff",
        "weight": 2.0,
        "influence": 1.5,
        "direct": 0.5,
        "heads": [{"layer": 3, "head": 1, "weight": 2.5}, {"layer": 2, "head": 0, "weight": -1.0}],
    }


def test_a_file_of_version_3_has_weights_alone(circuit: Circuit, tmp_path: Path) -> None:
    body = json.loads(circuit.save(tmp_path / "circuit.json").read_text())
    body = {name: value for name, value in body.items() if name not in ("format", "sha256")}
    for edge in body["edges"]:
        del edge["influence"], edge["direct"], edge["heads"]
    path = write_json(tmp_path / "old.json", {"format": "gossamer.circuit.3", "sha256": digest(body), **body})
    bare = tuple(Edge(one.source, one.target, one.weight) for one in circuit.edges)
    assert Circuit.load(path) == replace(circuit, edges=bare)


@pytest.mark.parametrize("version", [4, 5])
def test_a_file_without_groups_is_read_as_it_is(circuit: Circuit, tmp_path: Path, version: int) -> None:
    body = json.loads(circuit.save(tmp_path / "circuit.json").read_text())
    body = {name: value for name, value in body.items() if name not in ("format", "sha256", "groups")}
    path = write_json(tmp_path / "old.json", {"format": f"gossamer.circuit.{version}", "sha256": digest(body), **body})
    assert Circuit.load(path) == circuit


def test_a_file_of_a_later_version_is_refused_with_what_to_do(circuit: Circuit, tmp_path: Path) -> None:
    path = circuit.save(tmp_path / "circuit.json")
    path.write_text(path.read_text().replace("gossamer.circuit.6", "gossamer.circuit.7"))
    with pytest.raises(UsageError, match=r"circuit\.json: .* found version 7: upgrade gossamer"):
        Circuit.load(path)


def test_error_nodes_are_kept_by_name_and_are_no_features(nodes: Nodes, tmp_path: Path) -> None:
    places = torch.zeros(len(nodes.sites), len(nodes.roles), dtype=torch.bool)
    places[1, 0] = True
    wider = nodes.with_errors(places)
    made = Circuit.from_nodes(wider, torch.tensor([0, len(wider) - 1]), model="tiny", task="ioi")
    again = Circuit.load(made.save(tmp_path / "circuit.json"))
    assert again == made
    assert str(again.nodes[1]) == f"{nodes.sites[1]}/error@{nodes.roles[0]}"
    assert again.positions(wider).tolist() == [0, len(wider) - 1]
    assert again.features == {again.nodes[0].feature}
    with pytest.raises(UsageError, match="1 of 2 nodes"):
        again.positions(nodes)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["nodes"][0].update(node="resid_post.1/1@S"),
        lambda value: value["nodes"].pop(),
        lambda value: value["edges"][0].update(weight=0.5),
        lambda value: value["provenance"].update(seed=1),
        lambda value: value.pop("sha256"),
        lambda value: value.update(extra=1),
    ],
)
def test_a_changed_file_is_refused(circuit: Circuit, tmp_path: Path, change) -> None:
    path = circuit.save(tmp_path / "circuit.json")
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(GossamerError, match="checksum") as caught:
        Circuit.load(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_wherever_it_was_cut(circuit: Circuit, tmp_path: Path) -> None:
    path = circuit.save(tmp_path / "circuit.json")
    text = path.read_text()
    for end in range(0, len(text) - 2, 37):
        path.write_text(text[:end])
        with pytest.raises(GossamerError) as caught:
            Circuit.load(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "{}", '"circuit"', '{"format": "gossamer-circuit-0"}', '{"format": "mib"}'])
def test_another_format_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "circuit.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="expected a circuit file"):
        Circuit.load(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Circuit.load(tmp_path / "absent.json")
