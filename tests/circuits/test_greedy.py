"""Greedy selection against every single node tried by hand, and on a network of which the circuit is known."""

import pytest
import torch
from planted import Planted, planted

from gossamer.circuits.greedy import greedy_path
from gossamer.circuits.methods import ASKED_FOR, METHODS
from gossamer.circuits.refine import CircuitRefiner
from gossamer.circuits.study import Study
from gossamer.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def known(model: LanguageModel) -> Planted:
    return planted(model)


def test_the_known_circuit_is_found(known: Planted) -> None:
    count = len(known.keys)
    path = greedy_path(CircuitRefiner(known.splice, known.full), [500, count, 1], largest=count + 3, tried=4)
    assert path.sizes == [count, 1]
    assert known.found(path.circuits[0]) == set(known.keys)
    assert path.method == "greedy"


def test_each_place_goes_to_the_best_of_all_single_nodes(known: Planted) -> None:
    some = known.splice.nodes.select(torch.arange(0, len(known.splice.nodes), 9))
    refiner = CircuitRefiner(known.splice.with_nodes(some), known.full)
    n = len(some)
    one, two = (greedy_path(refiner, [size], largest=size, tried=n).circuits[0] for size in (1, 2))
    alone = [refiner.loss_of(torch.tensor([node])) for node in range(n)]
    assert refiner.loss_of(one) == pytest.approx(min(alone))
    first = min(range(n), key=alone.__getitem__)
    pairs = [refiner.loss_of(torch.tensor([first, node])) for node in range(n) if node != first]
    assert refiner.loss_of(two) == pytest.approx(min(pairs))


def test_what_falls_out_backward_counts_where_it_is_better(known: Planted) -> None:
    some = known.splice.nodes.select(torch.arange(0, len(known.splice.nodes), 7))
    refiner = CircuitRefiner(known.splice.with_nodes(some), known.full)
    forward = [greedy_path(refiner, [size], largest=size, tried=3).circuits[0] for size in (1, 2, 3)]
    both = greedy_path(refiner, [3, 2, 1], largest=6, tried=3)
    for circuit, longer in zip(reversed(forward), both.circuits, strict=True):
        assert refiner.loss_of(longer) <= refiner.loss_of(circuit) + 1e-9


def test_it_is_drawn_only_when_asked_for(study: Study) -> None:
    assert set(ASKED_FOR) <= set(METHODS)
    assert not set(ASKED_FOR) & set(study.methods)
