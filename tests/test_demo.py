"""The demo from nothing to a report, on the bundled model."""

import json

import pytest

from gossamer import bundled
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.export import read_attribution_graph
from gossamer.circuits.methods import METHODS
from gossamer.demo import MODEL, run_demo


@pytest.mark.slow
@pytest.mark.skipif(MODEL not in bundled.names(), reason="the bundled model has not been built")
def test_the_demo_finds_a_faithful_circuit_and_writes_everything(tmp_path):
    result = run_demo(tmp_path)
    circuit = Circuit.load(tmp_path / "circuit.json")
    assert circuit == result.found.circuit
    assert circuit.measured["faithfulness"] > 0.7
    assert 0 < len(circuit.nodes) <= 55
    page = result.report.read_text(encoding="utf-8")
    assert "spool" in page
    assert {node.latent for node in circuit.nodes} >= {
        placed.node.latent for placed in read_attribution_graph(tmp_path / "graph.json")
    }
    curves = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["curves"]
    assert curves[0]["method"] == "mask"
    assert [curve["method"] for curve in curves] == list(METHODS)
    assert "The strongest " in page
    assert any(edge.heads for edge in circuit.edges)
