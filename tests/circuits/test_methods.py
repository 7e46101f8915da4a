"""What every method is given: the exact steps after a search know an order that a circuit must not fall behind."""

import torch
from circuit_lab import SEARCH

from gossamer.circuits.attribution import attribution_patching, ranking
from gossamer.circuits.methods import METHODS
from gossamer.circuits.study import Study


def test_circuits_clearly_worse_than_attribution_patching_give_way_to_it(named: Study) -> None:
    given = named.method_inputs(SEARCH)
    splice = given.training.splice
    order = ranking(attribution_patching(splice), splice.nodes, signed=True)
    unlearned = METHODS["random"](given)
    refiner = given.refiner(unlearned)
    found = refiner.improved(unlearned)
    assert found.sizes == unlearned.sizes

    def mean(circuit: torch.Tensor) -> float:
        return (refiner.loss_of(circuit) + refiner.check_of(circuit)) / 2

    clearly = [mean(circuit) - mean(order[: len(circuit)]) > 0.05 for circuit in unlearned.circuits]
    assert sum(clearly) > len(clearly) / 2
    for circuit, size in zip(found.circuits, found.sizes, strict=True):
        assert mean(circuit) <= mean(order[:size]) + 0.06, f"{size} nodes"
    [known] = refiner.rankings()
    assert torch.equal(known, order)
    assert refiner.rankings() is refiner.rankings(), "measured once"


def test_a_distance_has_no_such_order(named: Study) -> None:
    study = Study(named.model, named.dictionaries, named.task.measured_by("kl"), named.settings)
    assert study.examples.metric.distance
    assert study.method_inputs(SEARCH).refiner().rankings() == []
