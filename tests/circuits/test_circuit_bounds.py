"""The local search of benchmarks/circuit_bounds.py against all subsets of a few candidates."""

import importlib
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.study import Study

N, SIZE = 9, 3


@pytest.fixture(scope="module")
def bounds() -> ModuleType:
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("circuit_bounds")
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def fitted(bounds: ModuleType, study: Study) -> Any:
    """Nine candidates, those that do most by themselves among every third."""
    whole = study.evaluator.splice
    each = bounds.Fitted(study.evaluator)
    some = torch.arange(0, len(whole.nodes), 3)
    alone = torch.tensor([each.kept(node.reshape(1)) for node in some])
    few = some[torch.sort(torch.argsort(alone, descending=True)[:N]).values]
    return bounds.Fitted(Evaluator(whole.with_nodes(whole.nodes.select(few)), own=study.evaluator.full))


@pytest.fixture(scope="module")
def every(fitted: Any) -> dict[tuple[int, ...], float]:
    """What every subset of one to three nodes keeps."""
    return {
        chosen: fitted.kept(torch.tensor(chosen))
        for size in range(1, SIZE + 1)
        for chosen in itertools.combinations(range(N), size)
    }


def test_costs_are_exact_and_gains_are_slopes(fitted: Any, every: dict[tuple[int, ...], float]) -> None:
    chosen = (0, 3, 7)
    costs = fitted.costs(torch.tensor(chosen))
    for cost, node in zip(costs.tolist(), chosen, strict=True):
        assert cost == pytest.approx(every[chosen] - every[tuple(one for one in chosen if one != node)], abs=1e-6)
    gains = fitted.gains(torch.tensor(chosen))
    assert bool(torch.isinf(gains[list(chosen)]).all())
    splice, full, step = fitted.prompts.splice, fitted.prompts.full, 1e-4
    mask = torch.zeros(N, dtype=gains.dtype).index_fill(0, torch.tensor(chosen), 1.0)
    base, moved = (
        full.kept(lambda rows, mask=one: splice.outputs(mask, rows))
        for one in (mask, mask.index_fill(0, torch.tensor(5), step))
    )
    assert (moved - base) / step == pytest.approx(gains[5].item(), rel=0.02, abs=1e-4)


def test_no_exchange_betters_what_exchanges_end_with(fitted: Any, every: dict[tuple[int, ...], float]) -> None:
    of_size = {chosen: value for chosen, value in every.items() if len(chosen) == SIZE}
    start = min(of_size, key=of_size.__getitem__)
    found = tuple(sorted(fitted.exchanged(torch.tensor(start), torch.inf).tolist()))
    assert of_size[found] > of_size[start]
    others = [one for one in of_size if len(set(one) & set(found)) == SIZE - 1]
    assert len(others) == SIZE * (N - SIZE)
    assert of_size[found] >= max(of_size[one] for one in others) - 2e-5
    enough = (of_size[start] + of_size[found]) / 2
    assert fitted.kept(fitted.exchanged(torch.tensor(start), enough)) >= enough, "it need not go on from there"


def test_the_smallest_keeps_enough_and_none_of_one_node_less_was_missed(
    fitted: Any, every: dict[tuple[int, ...], float]
) -> None:
    enough = 0.9 * max(every.values())
    least = min(len(chosen) for chosen, value in every.items() if value >= enough)
    for start in ((0,), tuple(range(N))):
        found = fitted.smallest(torch.tensor(start), enough)
        assert fitted.kept(found) >= enough
        assert len(found) == least, "on so few nodes local search finds the best"
    assert fitted.smallest(torch.tensor([0]), fitted.kept(torch.arange(N)) + max(every.values()) + 1) is None
    assert len(fitted.shrunk(torch.arange(N), SIZE)) == SIZE


def test_rows_and_sizes(bounds: ModuleType, fitted: Any) -> None:
    nodes = fitted.prompts.splice.nodes
    order = torch.argsort(torch.tensor([fitted.kept(torch.tensor([node])) for node in range(N)]), descending=True)
    ranking = CircuitPath.from_order("r", nodes, order, [8, 6, 4, 2], 0.0, torch.zeros(N))
    kept = {size: fitted.kept(order[:size]) for size in (8, 6, 4, 2)}
    fewest = bounds.needed(fitted, ranking, 0.9 * kept[8])
    assert kept[fewest] >= 0.9 * kept[8]
    assert fewest == 2 or kept[fewest - 2] < 0.9 * kept[8]
    assert bounds.needed(fitted, ranking, kept[8] + 1) is None
    assert bounds.first(ranking, 5).tolist() == order[:5].tolist()
    assert bounds.first(replace(ranking, scores=None), 5).tolist() == order[:4].tolist(), "no larger"

    tested = {"mask": 0.7, "one at a time": 0.8}
    trained = {"mask": (0.9, 0.75), "one at a time": (0.95, 0.6)}
    found = bounds.Bound(0.78, 20, None, 10, 0.5, 0.6, trained, tested, 0.3, 9)
    rows = list(bounds.rows("here", found))
    assert [(one["ours"], one["holds"]) for one in rows] == [
        (0.5, False), (0.6, False), (0.95, True), (0.6, False), (0.8, True), (0.3, True), (9, True), (0, True),
    ]  # fmt: skip
