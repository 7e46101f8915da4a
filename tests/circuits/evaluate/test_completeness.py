"""Completeness: both networks lose the same nodes, and only the circuit's own."""

import pytest
import torch
from circuit_lab import all_nodes, by_hand, differences, grids_of, random_dictionary, sites_of

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.evaluate.completeness import completeness
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.features import Node
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


@pytest.fixture(scope="module")
def evaluator(model: LanguageModel, task: Task) -> Evaluator:
    sites = sites_of("resid_post.1", "resid_post.2")
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    ablation = Ablation.measure(model, dictionaries, task)
    return Evaluator(Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries)))


@pytest.fixture(scope="module")
def circuit(evaluator: Evaluator) -> Nodes:
    """Latents of which most are kept at some roles and not at others."""
    nodes = evaluator.splice.nodes
    return nodes.select((nodes.latent < 12) & ((nodes.role + nodes.latent) % 3 > 0) & (nodes.role > 0))


def test_no_node_and_all_nodes_removed(evaluator: Evaluator, circuit: Nodes) -> None:
    found = completeness(evaluator, circuit, subsets=3)
    first, last = found.points[0], found.points[-1]
    assert (first.kind, first.size) == ("none", 0)
    assert first.circuit == evaluator.kept(circuit)
    assert first.model == pytest.approx(evaluator.faithfulness(evaluator.dictionaries))
    assert (last.kind, last.size) == ("whole circuit", len(circuit))
    assert last.circuit == evaluator.kept(circuit.none())
    assert last.model == evaluator.faithfulness(evaluator.without(circuit))
    assert found.knocked_out == evaluator.task_metrics("circuit knocked out", evaluator.without(circuit))
    assert len({round(value, 4) for value in (first.circuit, first.model, last.circuit, last.model)}) == 4


def test_subsets_are_removed_at_their_own_roles_from_circuit_and_model(
    evaluator: Evaluator, circuit: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[set[Node]] = []
    real = Evaluator.kept

    def watched(self: Evaluator, chosen: Nodes, **how: object) -> float:
        if how.get("non_nodes") != "kept":
            kept.append(set(chosen.keys()))
        return real(self, chosen, **how)

    monkeypatch.setattr(Evaluator, "kept", watched)
    found = completeness(evaluator, circuit, subsets=4, seed=7)
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
            logits = by_hand(evaluator.splice, grids_of(circuit, mask, evaluator.splice.dictionaries, rest))
            mean = differences(logits, evaluator.splice.examples).mean()
            reference = evaluator.full.prompt_metrics.metric.double().mean()
            assert value == pytest.approx((mean / reference).item(), rel=1e-5)
    some = whole - kept[2]
    features = {node.feature for node in some}
    assert any(node.feature in features for node in kept[2]), "a latent stays where K does not name it"


def test_sizes_are_spread_over_the_circuit_and_repeat_by_seed(evaluator: Evaluator, circuit: Nodes) -> None:
    small = circuit.select(torch.arange(10))
    found = completeness(evaluator, small, subsets=5, seed=3)
    assert [point.size for point in found.points] == [0, 1, 3, 5, 7, 9, 10]
    assert [point.kind for point in found.points] == ["none", *["random"] * 5, "whole circuit"]
    assert completeness(evaluator, small, subsets=5, seed=3) == found
    assert completeness(evaluator, small, subsets=5, seed=4) != found


def test_a_circuit_of_one_node_has_no_subset_in_between(evaluator: Evaluator, circuit: Nodes) -> None:
    found = completeness(evaluator, circuit.select(torch.tensor([5])))
    assert [(point.kind, point.size) for point in found.points] == [("none", 0), ("whole circuit", 1)]
