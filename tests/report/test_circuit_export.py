"""Exports of a circuit: read back by others' libraries, they are what was written."""

import io
import math
import zipfile
from xml.etree import ElementTree

import networkx
import pytest
import report_sample as sample

from gossamer.circuits.circuit import Circuit, CircuitNode
from gossamer.circuits.edge import Edge
from gossamer.errors import UsageError
from gossamer.features.feature import ERROR, Feature, Node
from gossamer.model.site import Site
from gossamer.report.circuit_export import FORMATS, export_circuit, zipped
from gossamer.report.graphml import circuit_graphml


@pytest.fixture(scope="module")
def findings():
    return sample.findings(18)


@pytest.fixture(scope="module")
def circuit(findings):
    nodes = tuple(CircuitNode(node.node, node.effect) for node in findings.nodes)
    return Circuit(nodes, findings.model, findings.task, findings.sites, findings.roles, findings.edges)


def refuse():
    raise AssertionError("no graph was asked for")


def test_networkx_reads_every_node_and_edge(circuit, findings, tmp_path):
    path = export_circuit("graphml", tmp_path / "c.graphml", circuit, findings, refuse)
    graph = networkx.read_graphml(path)
    metrics = {edge.target for edge in circuit.edges if isinstance(edge.target, str)}
    assert set(graph.nodes) == {str(node) for node in circuit.keys()} | metrics  # noqa: SIM118 - no mapping
    assert graph.is_directed()
    assert len(graph.edges) == len(circuit.edges)
    for edge in circuit.edges:
        assert graph.edges[str(edge.source), str(edge.target)]["weight"] == edge.weight
    for node in findings.nodes:
        facts = graph.nodes[str(node.node)]
        assert (facts["site"], facts["role"], facts["layer"]) == (str(node.site), node.role, node.site.layer)
        assert facts["effect"] == node.effect
        assert math.isnan(node.recurrence) == ("recurrence" not in facts)
    assert graph.graph["task"] == findings.task


def test_graphml_of_hostile_names_is_whole(tmp_path):
    node = Node(Feature(Site("resid_post", 1), 3), '<S>&"\x00\u202e')
    edge = Edge(node, "logit_diff", 0.5)
    circuit = Circuit((CircuitNode(node, 0.1),), "m<>&", "t\x1b", (node.site,), (node.role,), (edge,))
    (tmp_path / "c.graphml").write_text(circuit_graphml(circuit), encoding="utf-8")
    graph = networkx.read_graphml(tmp_path / "c.graphml")
    name = 'resid_post.1/3@<S>&"\\x00\\u202e'
    assert set(graph.nodes) == {name, "logit_diff"}
    assert graph.nodes[name]["role"] == '<S>&"\\x00\\u202e'
    assert graph.edges[name, "logit_diff"]["weight"] == 0.5


def test_graphml_tells_errors_from_latents(tmp_path):
    site = Site("resid_post", 1)
    nodes = tuple(CircuitNode(Node(Feature(site, latent), "S2"), 0.1) for latent in (3, ERROR))
    (tmp_path / "c.graphml").write_text(circuit_graphml(Circuit(nodes, "m", "t", (site,), ("S2",))), encoding="utf-8")
    graph = networkx.read_graphml(tmp_path / "c.graphml")
    latent, error = graph.nodes["resid_post.1/3@S2"], graph.nodes["resid_post.1/error@S2"]
    assert (latent["kind"], latent["latent"]) == ("latent", 3)
    assert error["kind"] == "error"
    assert "latent" not in error


def test_the_figure_stands_alone(circuit, findings, tmp_path):
    path = export_circuit("svg", tmp_path / "c.svg", circuit, findings, refuse)
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    links = [value for one in root.iter() for name, value in one.attrib.items() if name.endswith("href")]
    assert links
    assert all(link.startswith("#") for link in links)
    drawn = {one.get("id") for one in root.iter() if (one.get("id") or "").startswith("node-")}
    # Nodes that find no room are counted in it.
    assert drawn <= {f"node-{place}" for place in range(len(findings.nodes))}
    assert len(drawn) > len(findings.nodes) / 3


def test_the_map_is_the_notebook_s(circuit, findings, tmp_path):
    from gossamer.report import CircuitMap

    path = export_circuit("html", tmp_path / "c.html", circuit, findings, refuse)
    assert path.read_text(encoding="utf-8") == CircuitMap(findings).page()


def test_what_cannot_be_written_is_said(circuit, tmp_path):
    with pytest.raises(UsageError, match=r"neuronpedia, circuit-tracer, graphml, svg, html expected, found 'dot'"):
        export_circuit("dot", tmp_path / "c", circuit, None, refuse)
    for format in ("svg", "html"):
        with pytest.raises(UsageError, match="findings beside the circuit expected"):
            export_circuit(format, tmp_path / "c", circuit, None, refuse)
    assert list(tmp_path.iterdir()) == []
    assert all(one.ending or name == "circuit-tracer" for name, one in FORMATS.items())


def test_a_folder_is_packed_the_same_every_time(tmp_path):
    folder = tmp_path / "out"
    (folder / "features").mkdir(parents=True)
    (folder / "b.json").write_text("{}")
    (folder / "features" / "a.bin").write_bytes(b"\0" * 99)
    packed = zipped(folder)
    assert packed == zipped(folder)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["out/b.json", "out/features/a.bin"]
        assert archive.read("out/features/a.bin") == b"\0" * 99
