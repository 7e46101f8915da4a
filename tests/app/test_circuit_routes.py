"""The circuit view's routes: the numbers are those of the files and of the library, whatever is asked."""

import math
from dataclasses import replace

import pytest
from workbench_run import bench_of, client_of

from gossamer.app.live import MOST_WAITING
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import evaluate_circuit
from gossamer.circuits.group import NodeGroup
from gossamer.circuits.kept_search import FILE, FORMAT, KeptSearch
from gossamer.features import Node

URL = "/api/v1/circuits/circuit"


@pytest.fixture(scope="module")
def names(made):
    return [str(node.node) for node in made[2].nodes]


def test_the_overview_says_what_is_there(ask, made):
    said = ask.get("/api/v1/run").json()
    assert said["run"] == "run"
    assert {part["id"]: part["state"] for part in said["parts"]} == {"circuit": "whole", "findings": "whole"}
    assert "12 nodes at 3 sites" in said["parts"][0]["facts"]


def test_the_overview_tells_of_a_kept_search(run, made):
    found = made[1]
    FORMAT.save(run / FILE, KeptSearch.of("", found))
    told = client_of(bench_of(run)).get("/api/v1/run").json()["parts"]
    [kept] = [part for part in told if part["kind"] == "search for a circuit"]
    assert kept["state"] == "whole"
    assert kept["facts"][:2] == [f"12 of {len(found.path.nodes)} nodes", found.path.method]


def test_the_page_of_a_circuit_has_the_numbers_of_its_files(ask, made, names):
    _, found, findings = made
    said = ask.get(URL).json()
    assert said["digest"] == found.circuit.sha256
    assert said["measured"] == pytest.approx(found.circuit.measured)
    assert said["findings"] == "findings"
    drawn = said["map"]
    assert sorted(node["id"] for node in drawn["nodes"]) == sorted(names)
    assert len(drawn["edges"]) + said["hidden_edges"] == len(found.circuit.edges)
    assert said["hidden_nodes"] == 0
    assert [row["faithfulness"]["value"] for row in said["budget"]] == [
        one.faithfulness.value for one in findings.budget
    ]
    assert said["summary"].startswith("12 of ")


def test_the_map_counts_what_it_hides(ask, made):
    strongest = max(made[2].nodes, key=lambda node: abs(node.effect))
    said = ask.get(URL, params={"max_nodes": 3, "max_edges": 1}).json()
    assert len(said["map"]["nodes"]) == 3
    assert said["map"]["nodes"][0]["id"] == str(strongest.node)
    assert said["hidden_nodes"] == 9
    assert len(said["map"]["edges"]) <= 1
    assert said["hidden_edges"] == len(made[1].circuit.edges) - len(said["map"]["edges"])
    for wrong in ({"max_nodes": 0}, {"max_nodes": "many"}, {"max_edges": -1}, {"max_nodes": 10**9}):
        assert ask.get(URL, params=wrong).status_code == 422


def test_a_node_has_its_card(ask, made):
    card = made[2].nodes[0]
    said = ask.get(f"{URL}/nodes", params={"name": str(card.node)}).json()
    assert said["effect"] == card.effect
    assert said["card"]["feature"] == str(card.card.feature)
    assert said["card"]["density"] == pytest.approx(card.card.density)
    assert sum(said["card"]["counts"]) == sum(card.card.histogram.counts)
    example = said["card"]["examples"][0]
    assert max(example["shade"]) == pytest.approx(1.0)
    assert example["activations"][example["position"]] == pytest.approx(card.card.maximum)


def test_what_was_tested_is_told_in_full(ask, made):
    findings = made[2]
    said = ask.get(f"{URL}/evaluation").json()
    assert [curve["method"] for curve in said["curves"]] == [curve.method for curve in findings.curves]
    for curve, known in zip(said["curves"], findings.curves, strict=True):
        assert [one["size"] for one in curve["points"]] == [one.size for one in known.points]
        assert curve["cpr"] == pytest.approx(known.cpr)
    tables = {table["title"]: table for table in said["tables"]}
    assert [row[1] for row in tables["Edges kept"]["rows"]] == pytest.approx(
        [one.strongest.value for one in findings.edge_test.points]
    )
    assert all(len(row) == len(table["columns"]) for table in tables.values() for row in table["rows"])


def test_the_whole_circuit_measured_live_is_what_its_file_says(ask, made, names):
    measured = made[1].circuit.measured
    said = ask.post(f"{URL}/score", json={"nodes": names, "prompts": "held out"}).json()
    again = evaluate_circuit(made[1].circuit)
    assert said["prompts"] == again.prompts
    for part in ("pinned", "circuit"):
        assert said[part]["faithfulness"]["value"] == pytest.approx(measured["faithfulness"], abs=1e-6)
        assert said[part]["kl"] == pytest.approx(measured["kl"], abs=1e-6)
    assert said["empty"]["faithfulness"]["value"] == pytest.approx(again.metrics[-1].faithfulness.value, abs=1e-6)
    assert said["dictionaries"]["faithfulness"]["value"] == pytest.approx(
        measured["dictionaries_faithfulness"], abs=1e-6
    )


def test_what_is_chosen_on_is_not_what_is_reported_on(ask, bench, names):
    said = ask.post(f"{URL}/score", json={"nodes": names[:4]}).json()
    assert said["measured_on"] == "training prompts that choices are made on"
    with bench.restored("circuit") as restored:
        held_out = {prompt.clean_text for prompt in restored.study.task.test.prompts}
        chosen_on = [prompt.clean_text for prompt in restored.choice.splice.examples.prompts]
        nodes = restored.nodes.select(restored.nodes.find([Node.parse(name) for name in names[:4]]))
        own = restored.choice.prompt_metrics(nodes)
        assert said["pinned"]["faithfulness"]["value"] == pytest.approx(restored.choice.faithfulness(own), abs=1e-6)
        assert said["prompts"] == len(chosen_on)
    assert not held_out & set(chosen_on)


def test_nothing_pinned_is_the_empty_circuit_and_all_latents_are_left(ask):
    said = ask.post(f"{URL}/score", json={"nodes": []}).json()
    assert said["pinned"]["metric"] == said["empty"]["metric"]
    assert said["without"]["metric"]["value"] == pytest.approx(said["dictionaries"]["metric"]["value"], abs=1e-4)


@pytest.mark.parametrize("mode", ["zero", "mean", "value"])
def test_a_patch_says_what_the_model_says_with_the_nodes_moved(ask, names, mode):
    said = ask.post(f"{URL}/patch", json={"nodes": names[:2], "mode": mode, "value": 2.0, "prompt": 1}).json()
    right, wrong = said["words"][0], said["words"][1]
    assert right["word"] == said["prompt"]["answer"]
    assert right["logit"] - wrong["logit"] == pytest.approx(said["metric"], abs=1e-4)
    assert right["patched_logit"] - wrong["patched_logit"] == pytest.approx(said["patched_metric"], abs=1e-4)
    assert said["kl"] > 0
    assert all(0 <= word["probability"] <= 1 for word in said["words"])


def test_prompts_are_those_that_were_held_out(ask, bench):
    said = ask.get(f"{URL}/prompts", params={"limit": 2, "cursor": 1}).json()
    with bench.restored("circuit") as restored:
        held_out = restored.study.task.test.prompts
    assert said["total"] == len(held_out)
    assert [row["text"] for row in said["rows"]] == [prompt.clean_text for prompt in held_out[1:3]]


BAD = ["", ".", "..", "../circuit", "..%2fcircuit", "%00", "a" * 500, "ä", "circuit/../..", "<img src=x>", "circuit."]


@pytest.mark.parametrize("name", BAD)
def test_ids_that_are_none_are_refused_with_a_reason(ask, name):
    for end in ("", "/nodes?name=x", "/evaluation", "/prompts", "/views/one"):
        found = ask.get(f"/api/v1/circuits/{name}{end}")
        assert found.status_code in (404, 422), (name, end, found.text)
        assert found.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"nodes": ["resid_post.1/5@nowhere"]},
        {"nodes": ["nonsense"]},
        {"nodes": "all"},
        {"nodes": [1]},
        {"nodes": [], "prompts": "all"},
        {"nodes": ["x" * 300]},
        [],
        None,
    ],
)
def test_questions_that_mean_nothing_are_refused_with_a_reason(ask, body):
    found = ask.post(f"{URL}/score", json=body)
    assert found.status_code == 422
    assert found.json()["detail"]


def test_patches_that_mean_nothing_are_refused(ask, names):
    good = {"nodes": names[:1], "mode": "zero", "prompt": 0}
    for change in (
        {"prompt": 10**6},
        {"prompt": -1},
        {"mode": "all"},
        {"nodes": []},
        {"value": "much"},
        {"value": 1e300},
    ):
        found = ask.post(f"{URL}/patch", json={**good, **change})
        assert found.status_code == 422, change
    deep = "[" * 100_000 + "]" * 100_000
    found = ask.post(f"{URL}/patch", content=f'{{"nodes": {deep}}}', headers={"content-type": "application/json"})
    assert found.status_code in (400, 422)
    found = ask.post(f"{URL}/patch", content='{"nodes": ["\\ud800"], "mode": "zero"}')
    assert found.status_code in (400, 422)


def test_a_circuit_that_was_not_evaluated_yet_can_be_looked_at(run, ask):
    (run / "findings.json").unlink()
    alone = client_of(bench_of(run))
    said = alone.get(URL).json()
    assert said["findings"] is None
    assert said["budget"] == []
    whole = ask.get(URL).json()
    assert {node["id"]: node["effect"] for node in said["map"]["nodes"]} == pytest.approx(
        {node["id"]: node["effect"] for node in whole["map"]["nodes"]}, rel=1e-4
    )
    assert [(one["source"], one["target"]) for one in said["map"]["edges"]] == [
        (one["source"], one["target"]) for one in whole["map"]["edges"]
    ]
    assert said["map"]["groups"] == []
    circuit = Circuit.load(run / "circuit.json")
    pair = tuple(one.node for one in circuit.nodes[:2])
    replace(circuit, groups=(NodeGroup(pair, "a pair", 0.5),)).save(run / "circuit.json")
    names = list(map(str, pair))
    grouped = client_of(bench_of(run)).get(URL).json()
    assert grouped["digest"] == said["digest"]
    assert grouped["map"]["groups"] == [{"id": "group 0", "label": "a pair", "nodes": names, "effect": 0.5}]
    assert alone.get(f"{URL}/evaluation").status_code == 404
    assert "findings" in alone.get(f"{URL}/nodes", params={"name": "resid_post.1/1@x"}).json()["detail"]


def test_findings_of_another_circuit_are_not_taken_for_its_own(run):
    circuit = Circuit.load(run / "circuit.json")
    replace(circuit, nodes=circuit.nodes[:-1]).save(run / "circuit.json")
    assert client_of(bench_of(run)).get(URL).json()["findings"] is None


def test_damage_is_said_and_no_traceback(run):
    (run / "circuit.json").write_text((run / "circuit.json").read_text().replace("sva-simple", "sva-simpel"))
    found = client_of(bench_of(run)).get(URL)
    assert found.status_code == 422
    assert "changed or damaged" in found.json()["detail"]


def test_a_model_that_is_gone_is_said(run):
    circuit = Circuit.load(run / "circuit.json")
    gone = replace(circuit.inputs, model=replace(circuit.inputs.model, source=str(run / "no-model")))
    replace(circuit, inputs=gone).save(run / "circuit.json")
    (run / "findings.json").unlink()
    found = client_of(bench_of(run)).post(f"{URL}/score", json={"nodes": []})
    assert found.status_code == 422
    assert "not found" in found.json()["detail"]


def test_only_so_many_questions_wait(run):
    bench = bench_of(run)
    bench.live._waiting = MOST_WAITING
    found = client_of(bench).post(f"{URL}/score", json={"nodes": []})
    assert found.status_code == 503
    assert "wait" in found.json()["detail"]


def test_numbers_that_are_none_are_null(ask):
    assert "NaN" not in ask.get(URL).text
    assert all(math.isfinite(value) for value in ask.get(URL).json()["measured"].values())
    # No searches on samples were made: their share is no number.
    assert ask.get(URL).json()["map"]["nodes"][0]["recurrence"] is None
