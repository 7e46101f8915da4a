"""FAP-Synergy: effects against passes by hand, the rule on effects that are known, circuits on a planted network."""

import math
import random
from dataclasses import dataclass, field

import pytest
import torch
from circuit_lab import SEARCH
from planted import Planted, planted

from gossamer.circuits import synergy
from gossamer.circuits.attribution import attribution_patching, ranking
from gossamer.circuits.evaluate.comparison import family
from gossamer.circuits.methods import ASKED_FOR, METHODS
from gossamer.circuits.study import Study
from gossamer.circuits.synergy import synergy_path
from gossamer.model.language_model import LanguageModel


@dataclass
class Known:
    """Effects that are given: of single nodes, and what pairs do beyond their sum."""

    single: dict[int, float]
    together: dict[frozenset[int], float] = field(default_factory=dict)
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def of(self, *nodes: int) -> float:
        self.asked.append(nodes)
        return sum(self.single[node] for node in nodes) + self.together.get(frozenset(nodes), 0.0)


def places(effects: Known, size: int, count: int = 12) -> list[int]:
    """Of nodes numbered by their place, whose scores fall evenly from `count` to 1."""
    value = [float(count - place) for place in range(count)]
    return synergy._places(value, list(range(count)), size, effects.of, random.Random(0))


@pytest.fixture(scope="module")
def known(model: LanguageModel) -> Planted:
    return planted(model)


def test_a_weak_node_that_works_together_with_the_core_takes_the_last_place() -> None:
    # Of 8 places one is open, and two nodes compete for it: the eighth and the ninth.
    alone = Known(dict.fromkeys(range(12), 1.0))
    assert places(alone, 8) == list(range(8))
    pairs = {frozenset((partner, 8)): 0.5 for partner in range(7)}
    assert places(Known(alone.single, pairs), 8) == [*range(7), 8]
    # Scores of 5 and 4 compete, in units of 8: three times the synergy makes up for more or for less than 1 / 8.
    for together, last in ((0.05, 8), (0.03, 7)):
        assert places(Known(alone.single, dict.fromkeys(pairs, together)), 8)[-1] == last, together


def test_a_redundant_node_and_one_that_hurts_get_no_boost() -> None:
    alone = dict.fromkeys(range(12), 1.0)
    pairs = {frozenset((partner, 8)): 0.5 for partner in range(7)}
    assert places(Known({**alone, 8: -0.1}, pairs), 8)[-1] == 7
    assert places(Known(alone, dict.fromkeys(pairs, -0.5)), 8)[-1] == 7
    # Partners whose own effect is negative do not count, even where most are so.
    assert places(Known({**alone, **dict.fromkeys(range(6), -1.0)}, pairs), 8)[-1] == 8
    assert places(Known({**alone, **dict.fromkeys(range(7), -1.0)}, pairs), 8)[-1] == 7


def test_candidates_stand_around_the_last_place_and_partners_are_the_first_nodes() -> None:
    effects = Known(dict.fromkeys(range(300), 1.0))
    found = places(effects, 100, count=300)
    assert found == list(range(100))
    singles = {nodes[0] for nodes in effects.asked if len(nodes) == 1}
    assert singles == {*range(32), *range(88, 112)}
    pairs = [nodes for nodes in effects.asked if len(nodes) == 2]
    assert len(pairs) == 24 * 8
    assert {partner for _, partner in pairs} <= set(range(32))
    # A circuit too small for an open place is the ranking's; of a short ranking all are candidates that there are.
    assert places(Known({}), 1) == [0]
    assert places(Known(dict.fromkeys(range(12), 1.0)), 12) == list(range(12))


def test_more_open_places_than_candidates_are_filled_in_order() -> None:
    assert sorted(places(Known(dict.fromkeys(range(600), 1.0)), 400, count=600)) == list(range(400))


@pytest.mark.parametrize(
    ("size", "last"),
    [
        (10, {9}),
        (20, {18, 19}),
        (50, {44, 45, 46, 49, 50, 53}),
        (100, {*range(88, 96), 98, 101, 105, 109}),
        (200, {*range(175, 197), 200, 204, 205}),
    ],
)
def test_places_are_those_of_the_authors_code(size: int, last: set[int]) -> None:
    """What PIE-Pipeline's `apply_synergy_reranking` (commit 2b06471) keeps of these effects, with the same draws."""

    def effect(*nodes: int) -> float:
        alone = sum(0.4 + math.sin(1.7 * node) for node in nodes)
        return alone + (0.5 * math.sin(0.9 * nodes[0] * nodes[1]) if len(nodes) > 1 else 0.0)

    value = [0.99**place for place in range(260)]
    found = synergy._places(value, list(range(260)), size, effect, random.Random(11))
    assert set(found) == {*range(size - len(last)), *last}


def test_effects_by_hand(known: Planted) -> None:
    nodes = known.splice.with_nodes(known.splice.nodes, non_nodes="kept")
    examples = known.splice.examples
    effects = synergy._Effects.around(known.splice)

    def metric(*without: int) -> float:
        mask = torch.ones(len(nodes.nodes), dtype=torch.float64)
        mask[list(without)] = 0
        with torch.no_grad():
            logits = nodes(mask)
        return (logits[:, 7] - logits[:, 8]).double().mean().item()

    assert len(examples) == 12
    for without in ((0,), (3,), (3, 9), (9, 3), (0, 14)):
        assert effects.of(*without) == pytest.approx(metric() - metric(*without), rel=1e-5, abs=1e-7)
    assert len(effects.known) == 5, "of no node, and each set once"


def test_its_path_on_a_network(named: Study) -> None:
    given = named.method_inputs(SEARCH)
    scores = attribution_patching(given.training.splice)
    for signed in (False, True):
        name = "FAP-Synergy" + (", signed" if signed else "")
        path = METHODS[name](given)
        assert path.method == name
        assert family(name) == "FAP-Synergy"
        assert name in ASKED_FOR
        assert path.sizes == [size for size in sorted(SEARCH.sizes, reverse=True) if size <= 100]
        order = ranking(scores, path.nodes, signed=signed)
        for circuit in path.circuits:
            size, half = len(circuit), round(len(circuit) / 8)
            assert len(circuit.unique()) == size
            assert torch.equal(circuit[: size - half], order[: size - half])
            assert set(circuit.tolist()) <= set(order[: size + half].tolist())
        again = METHODS[name](given)
        assert all(torch.equal(*pair) for pair in zip(path.circuits, again.circuits, strict=True))


def test_a_distance_falls_where_a_node_helps(named: Study) -> None:
    study = Study(named.model, named.dictionaries, named.task.measured_by("kl"), named.settings)
    splice = study.method_inputs(SEARCH).training.splice
    assert splice.examples.metric.distance
    effects = synergy._Effects.around(splice)
    gone = tuple(range(len(splice.nodes)))
    assert effects.of(*gone) > 0, "without any node the distance from the model rises"
    scores = torch.arange(len(splice.nodes), 0, -1).float()
    assert synergy_path(splice, scores, [10, 500], largest=10).sizes == [10]
