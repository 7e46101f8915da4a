"""What every method is given: the exact steps after a search know an order that a circuit must not fall behind."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import SEARCH

from gossamer.circuits.attribution import attribution_patching, ranking
from gossamer.circuits.methods import METHODS, MaskedPrompts, MethodInputs, mask_path, searched
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.search import SearchSettings, search_path, search_sizes
from gossamer.circuits.splice import Splice
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


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """Of each search that is made, the number of its prompts and of its circuits, where not all are wanted."""
    seen: list[tuple[int, int | None]] = []

    def watched(splice: Splice, full: FullModel, settings: SearchSettings, *, only: int | None) -> CircuitPath:
        seen.append((len(splice.examples), only))
        return search_path(splice, full, settings, only=only)

    monkeypatch.setattr("gossamer.circuits.methods.search_path", watched)
    return seen


def test_what_is_searched_without_the_validation_prompts_is_searched_once(
    named: Study, searches: list[tuple[int, int | None]]
) -> None:
    study = Study(named.model, named.dictionaries, named.task, named.settings)
    given = study.method_inputs(SEARCH)
    sizes = search_sizes(SEARCH, len(study.nodes))
    least = sizes[-2]
    path = given.searched_apart(least)
    assert path.sizes == sizes[:-1]
    assert searches == [(len(given.fitted.splice.examples), len(sizes) - 1)]
    fewer = study.method_inputs(replace(SEARCH, sizes=[least, sizes[-1]]))
    assert fewer.searched_apart(least) is path, "whatever sizes are asked for"
    assert given.sampled(lambda side: side.resampled(3)).searched_apart(least) is path
    whole = given.searched_apart()
    assert whole.sizes == sizes
    assert all(torch.equal(*pair) for pair in zip(whole.circuits, path.circuits, strict=False))
    assert given.searched_apart(least) is given.searched_apart() is whole
    assert len(searches) == 2


def test_circuits_that_saw_the_validation_prompts_know_what_those_do_that_did_not(named: Study) -> None:
    given = named.method_inputs(SEARCH)
    refiner = given.refiner()
    assert refiner.validation is not None
    unseen = refiner.unseen()
    assert unseen is not None
    assert refiner.unseen() is unseen, "measured once"
    path = given.searched_apart()
    for circuit in path.circuits:
        if len(circuit) in unseen.sizes:
            torch.testing.assert_close(unseen.at(len(circuit)), refiner.validation.found(circuit)[1])
    assert set(unseen.sizes) <= set(path.sizes)


def test_without_prompts_that_are_held_apart_nothing_is_known_of_others(
    named: Study, searches: list[tuple[int, int | None]]
) -> None:
    given = named.method_inputs(SEARCH)
    alone = MethodInputs.divided(MaskedPrompts(given.training.splice, given.training.full), None, SEARCH)
    assert alone.refiner().unseen() is None
    assert given.held_apart.refiner().unseen() is None, "its validation prompts are no part of what it fits"
    assert given.refiner(METHODS["reference recipe"](given)).unseen() is None, "over all latents"
    assert searches == []
    mask_path(alone)
    assert len(searches) == 1
    assert searched(alone, 2).sizes == search_sizes(SEARCH, len(named.nodes))[:2]
