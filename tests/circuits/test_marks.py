"""A reader's marks in an attribution graph: at every position of a node, and nothing that is not in the graph."""

from dataclasses import replace

from circuit_lab import node_at
from test_export import CIRCUIT, _graph

from gossamer.circuits.export import graph_beside, save_attribution_graph, validate_attribution_graph, with_marks

FIRST, Z, LATER, LAST = CIRCUIT.keys()
ABSENT = node_at("resid_post.3", "gap3", 7)


def test_pins_groups_and_labels_stand_at_every_position():
    graph = _graph()
    found = with_marks(graph, pinned=[FIRST, ABSENT], groups=[("both", (Z, LATER))], labels={Z: "<comma>", ABSENT: "x"})
    validate_attribution_graph(found)
    both = ["3_2_5", "3_2_6", "3_19_5", "3_19_6"]
    assert found["qParams"]["supernodes"] == [["both", *both]]
    assert found["qParams"]["pinnedIds"] == ["0_3_2", *both]
    labels = {node["node_id"]: node["clerp"] for node in found["nodes"]}
    assert (labels["3_2_5"], labels["3_2_6"]) == ("<comma>", "<comma>")
    assert labels["3_19_5"] == "resid_post.3/2 at gap3"
    assert graph == _graph()


def test_a_group_of_one_place_is_none():
    found = with_marks(_graph(), groups=[("alone", (FIRST,)), ("nobody", (ABSENT,))])
    assert found["qParams"]["supernodes"] == found["qParams"]["pinnedIds"] == []


def test_the_graph_beside_a_circuit_is_its_own(tmp_path):
    assert graph_beside(CIRCUIT, tmp_path) is None
    save_attribution_graph(tmp_path / "graph.json", _graph())
    assert graph_beside(CIRCUIT, tmp_path) == _graph()
    for changed in ({"nodes": CIRCUIT.nodes[1:]}, {"edges": CIRCUIT.edges[1:]}):
        assert graph_beside(replace(CIRCUIT, **changed), tmp_path) is None
    (tmp_path / "graph.json").write_text('{"metadata": {}}')
    assert graph_beside(CIRCUIT, tmp_path) is None
