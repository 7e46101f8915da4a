"""`gossamer export`: files beside their source, and one-line errors."""

import json

import networkx
import pytest
from workbench_run import write_run

from gossamer.app.saved_view import FORMAT, SavedView
from gossamer.circuits.circuit import Circuit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "run"
    folder.mkdir()
    write_run(folder)
    return folder


def test_a_circuit_is_written_beside_its_file(gossamer, folder):
    done = gossamer("export", folder, "-f", "graphml")
    assert (done.code, done.out.strip()) == (0, str(folder / "export" / "graphml.graphml"))
    nodes = {str(node) for node in Circuit.load(folder / "circuit.json").keys()}  # noqa: SIM118 - no mapping
    assert nodes <= set(networkx.read_graphml(done.out.strip()).nodes)


def test_a_kept_view_is_in_the_graph(gossamer, folder, tmp_path):
    circuit = Circuit.load(folder / "circuit.json")
    name = str(circuit.nodes[0].node)
    FORMAT.save(tmp_path / "one.json", SavedView(circuit.sha256, (name,), (), {name: "mine"}))
    out = tmp_path / "graph.json"
    asked = ("export", folder / "circuit.json", "-f", "neuronpedia", "--view", tmp_path / "one.json", "--out", out)
    done = gossamer(*asked, "--json")
    assert json.loads(done.out) == {"format": "neuronpedia", "files": [str(out)]}
    assert json.loads(out.read_text())["qParams"]["pinnedIds"]
    FORMAT.save(tmp_path / "one.json", SavedView("0" * 64, (), (), {}))
    refused = gossamer(*asked)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "of another circuit" in refused.err


def test_circuit_tracer_s_command_is_said(gossamer, folder, tmp_path):
    done = gossamer("export", folder, "-f", "circuit-tracer", "--out", tmp_path / "ct")
    assert done.err.strip() == (
        f"circuit-tracer start-server --graph_file_dir {tmp_path / 'ct'} --features_dir {tmp_path / 'ct' / 'features'}"
    )
    assert (tmp_path / "ct" / "graph-metadata.json").is_file()


def test_latents_of_findings_are_written_a_folder_a_site(gossamer, folder, tmp_path):
    done = gossamer("export", folder, "-f", "saedashboard", "--out", tmp_path, "--set", "res")
    sites = {str(node.site) for node in Circuit.load(folder / "circuit.json").nodes}
    assert {path.parent.name for path in tmp_path.rglob("batch-0.json")} == sites
    assert len(done.out.splitlines()) == len(sites)
    for path in tmp_path.rglob("batch-0.json"):
        body = json.loads(path.read_text())
        assert f"resid_post.{body['layer']}" == path.parent.name
        assert body["sae_set"] == "res"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing", "-f", "svg"), "nothing: no such file or folder"),
        ((".", "-f", "dot"), "--format: expected one of neuronpedia, "),
        ((".", "-f", "svg", "--prompt", "-1"), "--prompt: at least 0 expected"),
        ((".", "-f", "neuronpedia", "--view", "x.json"), "x.json: no such file"),
        (
            (".", "-f", "graphml", "--prompt", "3"),
            "--prompt: for neuronpedia and circuit-tracer, found --format graphml",
        ),
        ((".", "-f", "graphml", "--feature", "resid_post.1/3"), "--feature: for saedashboard and neuronpedia-features"),
        ((".", "-f", "saedashboard"), ".: a feature store or findings expected"),
    ],
)
def test_a_users_mistakes_are_one_line(gossamer, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    refused = gossamer("export", *arguments)
    assert refused.code == 2
    assert refused.err.startswith(f"error: {said}")
    assert refused.err.count("\n") == 1


def test_latents_of_a_file_of_findings_go_beside_it(gossamer, folder):
    done = gossamer("export", folder / "findings.json", "-f", "saedashboard")
    assert done.code == 0, done.err
    assert all(line.startswith(str(folder / "export" / "saedashboard")) for line in done.out.split())


def test_a_latent_that_the_circuit_lacks_is_refused(gossamer, folder):
    refused = gossamer("export", folder, "-f", "saedashboard", "--feature", "resid_post.1/999")
    assert refused.code == 2
    assert "latents of the circuit expected, found resid_post.1/999" in refused.err
