"""Faithfulness by how many edges are kept."""

import pytest
import torch
from circuit_lab import random_choice

from gossamer.circuits.edges import DirectEffects, direct_effects
from gossamer.circuits.evaluate.edge_curve import edge_counts, edge_test
from gossamer.circuits.evaluate.edge_network import EdgeNetwork
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.study import Study
from gossamer.errors import UsageError


@pytest.fixture(scope="module")
def circuit(study: Study) -> Nodes:
    return random_choice(study.nodes, 60)


@pytest.fixture(scope="module")
def effects(study: Study, circuit: Nodes) -> DirectEffects:
    return direct_effects(study.splice, circuit)


def test_numbers_of_edges_are_halves_of_all() -> None:
    assert edge_counts(22) == [1, 2, 5, 11, 22]
    assert edge_counts(0) == []


def test_points_are_what_networks_with_these_edges_keep(study: Study, circuit: Nodes, effects: DirectEffects) -> None:
    evaluator = study.evaluator
    found = edge_test(evaluator, effects, draws=2)
    assert (found.measured_on, found.tested_on) == (len(study.examples), len(study.task.test))
    total = int((effects.weights != 0).sum())
    assert [point.edges for point in found.points] == edge_counts(total)
    network = evaluator.splice.with_nodes(circuit)
    ranked = torch.where(effects.weights != 0, effects.influence.abs(), -1).flatten().argsort(descending=True)
    for point in found.points:
        kept = torch.zeros(effects.weights.numel(), dtype=torch.bool)
        kept[ranked[: point.edges]] = True
        share = evaluator.full.kept(EdgeNetwork(network, kept.reshape(effects.weights.shape)))
        assert point.strongest.value == pytest.approx(share, rel=1e-6)
        assert point.strongest.low <= point.strongest.value <= point.strongest.high
        assert len(point.draws) == 2
        assert point.random.value == pytest.approx(sum(point.draws) / 2, abs=1e-6)
    # With all measured edges, strongest and random are the same.
    last = found.points[-1]
    assert last.draws == pytest.approx((last.strongest.value,) * 2, rel=1e-6)
    assert found.none.value == pytest.approx(evaluator.kept(circuit.none()))
    assert found.every.value == pytest.approx(evaluator.kept(circuit))
    assert found.every.value != pytest.approx(found.none.value, abs=1e-3)


def test_the_same_seed_draws_the_same_edges(study: Study, effects: DirectEffects) -> None:
    found = [edge_test(study.evaluator, effects, draws=1, seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].points != found[2].points


def test_no_random_set_is_refused(study: Study, effects: DirectEffects) -> None:
    with pytest.raises(UsageError, match="draws"):
        edge_test(study.evaluator, effects, draws=0)
