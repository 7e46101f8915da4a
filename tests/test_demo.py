"""The demo from nothing to a report, on the bundled model: the command itself, as a user runs it."""

import json
import subprocess
import sys

import pytest

from gossamer import bundled
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.export import read_attribution_graph
from gossamer.circuits.methods import ASKED_FOR, METHODS
from gossamer.demo import MODEL


@pytest.mark.slow
@pytest.mark.skipif(MODEL not in bundled.names(), reason="the bundled model has not been built")
def test_the_demo_finds_a_faithful_circuit_and_writes_everything(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "gossamer", "demo", "--out", tmp_path, "--json"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    circuit = Circuit.load(said["circuit"])
    assert said["circuit"] == str(tmp_path / "circuit.json")
    assert said["nodes"] == len(circuit.nodes)
    assert circuit.measured == {name: said[name] for name in circuit.measured}
    assert circuit.measured["faithfulness"] > 0.7
    assert 0 < len(circuit.nodes) <= 55
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert circuit.sha256 in page
    assert "spool" in page
    assert {node.latent for node in circuit.nodes} >= {
        placed.node.latent for placed in read_attribution_graph(tmp_path / "graph.json")
    }
    curves = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["curves"]
    assert curves[0]["method"] == "mask"
    assert [curve["method"] for curve in curves] == [name for name in METHODS if name not in ASKED_FOR]
    assert "The strongest " in page
    assert any(edge.heads for edge in circuit.edges)
