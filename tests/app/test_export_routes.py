"""Exports from the workbench: the files that the library writes, under names that are safe."""

import io
import json
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest
from workbench_run import bench_of, client_of

from gossamer.circuits.export import read_attribution_graph, save_attribution_graph
from gossamer.report.circuit_export import FORMATS

URL = "/api/v1/circuits/circuit/export"


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_a_file(ask, made, format, tmp_path):
    found = ask.get(URL, params={"format": format})
    assert found.status_code == 200
    assert found.headers["content-type"].startswith(FORMATS[format].media)
    ending = FORMATS[format].ending or ".zip"
    assert found.headers["content-disposition"] == f'attachment; filename="sva-simple-{format}{ending}"'
    nodes = set(made[1].circuit.keys())
    if format == "neuronpedia":
        (tmp_path / "graph.json").write_bytes(found.content)
        assert {one.node for one in read_attribution_graph(tmp_path / "graph.json")} <= nodes
    elif format == "circuit-tracer":
        names = zipfile.ZipFile(io.BytesIO(found.content)).namelist()
        assert "sva-simple-circuit-tracer/graph-metadata.json" in names
    elif format != "html":
        assert ElementTree.fromstring(found.content).tag.endswith(("svg", "graphml"))
    else:
        assert found.text.startswith("<!DOCTYPE html>")


def test_the_graph_beside_the_circuit_needs_no_model(run, made):
    bench = bench_of(run)
    bench.live.turn = None  # asking it fails
    assert client_of(bench).get(URL, params={"format": "neuronpedia"}).status_code == 500
    graph = made[1].graph()
    save_attribution_graph(run / "graph.json", graph)
    found = client_of(bench).get(URL, params={"format": "neuronpedia"}).json()
    assert found["links"] == graph["links"]
    assert [node["node_id"] for node in found["nodes"]] == [node["node_id"] for node in graph["nodes"]]


def test_another_prompt_and_a_kept_view_are_in_the_graph(run, made):
    bench = bench_of(run)
    name = str(made[2].nodes[0].node)
    marks = {"pinned": [name], "groups": [], "labels": {name: "mine"}}
    with bench.holding_views():
        client = client_of(bench)
        client.put("/api/v1/circuits/circuit/views/one", json=marks)
        found = client.get(URL, params={"format": "neuronpedia", "prompt": 3, "view": "one"}).json()
        assert found["metadata"]["prompt_tokens"] == made[1].graph(3)["metadata"]["prompt_tokens"]
        pinned = [node["clerp"] for node in found["nodes"] if node["node_id"] in found["qParams"]["pinnedIds"]]
        assert pinned
        assert all(label.startswith("mine · ") for label in pinned)
        assert client.get(URL, params={"format": "neuronpedia", "view": "two"}).status_code == 404


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 422),
        ({"format": "dot"}, 422),
        ({"format": "neuronpedia", "prompt": 999_999}, 422),
        ({"format": "neuronpedia", "prompt": -1}, 422),
        ({"format": "neuronpedia", "view": "../x"}, 422),
    ],
)
def test_what_is_not_meant_is_refused(ask, asked, status):
    assert ask.get(URL, params=asked).status_code == status


def test_pictures_need_findings(run):
    (run / "findings.json").unlink()
    client = client_of(bench_of(run))
    refused = client.get(URL, params={"format": "svg"})
    assert (refused.status_code, json.loads(refused.content)["detail"].split(":")[0]) == (422, "svg")
    assert client.get(URL, params={"format": "graphml"}).status_code == 200
