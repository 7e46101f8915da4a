"""Completeness: both networks lose the same nodes, and only the circuit's own."""

import pytest
import torch
from circuit_lab import all_nodes, by_hand, differences, grids_of, random_dictionary, sites_of

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.evaluate.bench import Bench
from gossamer.circuits.evaluate.completeness import completeness
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outcome import Outcome
from gossamer.circuits.splice import Splice
from gossamer.features import Node
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


@pytest.fixture(scope="module")
def bench(model: LanguageModel, task: Task) -> Bench:
    sites = sites_of("resid_post.1", "resid_post.2")
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    ablation = Ablation.measure(model, dictionaries, task)
    return Bench(Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries)))


@pytest.fixture(scope="module")
def circuit(bench: Bench) -> Nodes:
    """Latents of which most are kept at some roles and not at others."""
    nodes = bench.splice.nodes
    return nodes.select((nodes.latent < 12) & ((nodes.role + nodes.latent) % 3 > 0) & (nodes.role > 0))


def test_no_node_and_all_nodes_removed(bench: Bench, circuit: Nodes) -> None:
    found = completeness(bench, circuit, subsets=3)
    first, last = found.points[0], found.points[-1]
    assert (first.kind, first.size) == ("none", 0)
    assert first.circuit == bench.kept(circuit)
    assert first.model == pytest.approx(bench.faithfulness(bench.dictionaries))
    assert (last.kind, last.size) == ("whole circuit", len(circuit))
    assert last.circuit == bench.kept(circuit.none())
    assert last.model == bench.faithfulness(bench.without(circuit))
    assert found.knocked_out == bench.behaviour("circuit knocked out", bench.without(circuit))
    assert len({round(value, 4) for value in (first.circuit, first.model, last.circuit, last.model)}) == 4


def test_subsets_are_removed_at_their_own_roles_from_circuit_and_model(
    bench: Bench, circuit: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[set[Node]] = []
    real = Bench.outcome

    def watched(self: Bench, chosen: Nodes, **how: object) -> Outcome:
        if how.get("rest") != "kept":
            kept.append(set(chosen.keys()))
        return real(self, chosen, **how)

    monkeypatch.setattr(Bench, "outcome", watched)
    found = completeness(bench, circuit, subsets=4, seed=7)
    whole, keys = set(circuit.keys()), circuit.keys()
    assert len(kept) == len(found.points) == 6
    for left, point in zip(kept, found.points, strict=True):
        gone = whole - left
        assert left <= whole
        assert len(gone) == point.size
        # C without K: ones at what is left, nothing elsewhere; M without K: zeros at K alone.
        inside = torch.tensor([float(key in left) for key in keys], dtype=torch.float64)
        outside = torch.tensor([float(key not in gone) for key in keys], dtype=torch.float64)
        for mask, rest, value in ((inside, 0.0, point.circuit), (outside, 1.0, point.model)):
            logits = by_hand(bench.splice, grids_of(circuit, mask, bench.splice.dictionaries, rest))
            mean = differences(logits, bench.splice.examples).mean()
            reference = bench.full.outcome.metric.double().mean()
            assert value == pytest.approx((mean / reference).item(), rel=1e-5)
    some = whole - kept[2]
    features = {node.feature for node in some}
    assert any(node.feature in features for node in kept[2]), "a latent stays where K does not name it"


def test_sizes_are_spread_over_the_circuit_and_repeat_by_seed(bench: Bench, circuit: Nodes) -> None:
    small = circuit.select(torch.arange(10))
    found = completeness(bench, small, subsets=5, seed=3)
    assert [point.size for point in found.points] == [0, 1, 3, 5, 7, 9, 10]
    assert [point.kind for point in found.points] == ["none", *["random"] * 5, "whole circuit"]
    assert completeness(bench, small, subsets=5, seed=3) == found
    assert completeness(bench, small, subsets=5, seed=4) != found


def test_a_circuit_of_one_node_has_no_subset_in_between(bench: Bench, circuit: Nodes) -> None:
    found = completeness(bench, circuit.select(torch.tensor([5])))
    assert [(point.kind, point.size) for point in found.points] == [("none", 0), ("whole circuit", 1)]
