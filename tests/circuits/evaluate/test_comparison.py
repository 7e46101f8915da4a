"""Closeness by size beside baselines, against the same numbers worked out by hand."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import all_nodes, random_dictionary, sites_of

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.curve import SizeComparison, best_baseline
from gossamer.circuits.evaluate.comparison import CHOSEN, chosen_baseline, compared, family
from gossamer.circuits.evaluate.evaluator import Evaluator, MeasuredPath
from gossamer.circuits.methods import METHODS
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.statistics import Interval
from gossamer.tasks.task import Task


@pytest.fixture(scope="module")
def evaluator(model: LanguageModel, task: Task) -> Evaluator:
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites_of("resid_post.1"))}
    ablation = Ablation.measure(model, dictionaries, task)
    return Evaluator(Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries)), seed=1)


def ranked(evaluator: Evaluator, method: str, seed: int, sizes: tuple[int, ...]) -> MeasuredPath:
    nodes = evaluator.splice.nodes
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(seed))
    return evaluator.measured(CircuitPath.from_order(method, nodes, order, sizes, 0.0))


def test_variants_of_a_ranking_are_one_family() -> None:
    known = {family(name) for name in METHODS if name.startswith("integrated gradients")}
    assert known == {"integrated gradients"}
    assert family("attribution patching, signed") == "attribution patching"
    assert family("random") == "random"


def test_differences_by_hand(evaluator: Evaluator) -> None:
    ours = ranked(evaluator, "mask", 0, (60, 30, 6))
    others = [
        ranked(evaluator, "integrated gradients", 1, (60, 40, 2)),
        ranked(evaluator, "integrated gradients by site, signed", 2, (60, 40)),
        ranked(evaluator, "random", 3, (30, 5)),
    ]
    found = compared(evaluator, ours, others)
    assert [(one.family, one.size, one.nodes) for one in found] == [
        ("integrated gradients", 60, 60),
        ("integrated gradients", 40, 30),
        ("random", 30, 30),
    ], "ours is the largest circuit that is no larger; sizes below the least, and below ours, do not count"

    base = evaluator.full.prompt_metrics.metric.double()
    weights = evaluator.weights

    def close(path: MeasuredPath, size: int, draws: torch.Tensor) -> torch.Tensor:
        metric = path.metrics[path.path.sizes.index(size)].metric.double()
        return 1 - (1 - (draws @ metric) / (draws @ base)).abs()

    ones = torch.ones(1, len(base), dtype=torch.float64)
    for one in found:
        rivals = [other for other in others if family(other.path.method) == one.family]
        best = max(rivals, key=lambda rival: close(rival, one.size, ones).item())
        assert one.method == best.path.method
        assert one.theirs == pytest.approx(close(best, one.size, ones).item(), rel=1e-9)
        assert one.ours == pytest.approx(close(ours, one.nodes, ones).item(), rel=1e-9)
        gaps = close(ours, one.nodes, weights) - close(best, one.size, weights)
        assert one.difference.value == pytest.approx(one.ours - one.theirs, abs=1e-12)
        assert one.difference.low == pytest.approx(torch.quantile(gaps, 0.025).item(), abs=1e-9)
        assert one.difference.high == pytest.approx(torch.quantile(gaps, 0.975).item(), abs=1e-9)


def test_a_path_beside_itself_is_nowhere_behind(evaluator: Evaluator) -> None:
    ours = ranked(evaluator, "mask", 0, (60, 30, 6))
    same = MeasuredPath(replace(ours.path, method="again"), ours.metrics)
    found = compared(evaluator, ours, [same])
    assert [one.difference for one in found] == [Interval(0.0, 0.0, 0.0)] * 3
    assert not any(one.behind or one.significantly_behind for one in found)


def row(size: int, family: str, theirs: float, difference: Interval) -> SizeComparison:
    return SizeComparison(size, size, family, family, theirs + difference.value, theirs, difference)


def test_the_best_baseline_of_each_size_and_who_is_behind() -> None:
    rows = [
        row(10, "a", 0.5, Interval(-0.1, -0.2, 0.1)),
        row(10, "b", 0.7, Interval(-0.3, -0.4, -0.2)),
        row(20, "a", 0.9, Interval(0.05, -0.1, 0.2)),
        row(20, "b", 0.2, Interval(-0.0004, -0.1, 0.2)),
    ]
    assert best_baseline(rows) == [rows[2], rows[1]]
    assert [one.behind for one in rows] == [True, True, False, False], "less than a thousandth is rounding"
    assert [one.significantly_behind for one in rows] == [False, True, False, False]


def test_the_baseline_that_other_prompts_choose(evaluator: Evaluator) -> None:
    others = [ranked(evaluator, name, seed, (60, 30)) for seed, name in enumerate(("one", "two", "three"), start=1)]
    half = torch.arange(len(evaluator.splice.examples) // 2)
    choice = evaluator.select(half)
    found = chosen_baseline(choice, others)
    assert found is not None
    assert (found.path.method, found.path.sizes) == (CHOSEN, [60, 30])
    own = evaluator.full.prompt_metrics.metric.double()[half]
    for place in range(2):
        # By hand, from what was measured on all prompts, of which these are some.
        missed = [abs(1 - (one.metrics[place].metric.double()[half].mean() / own.mean()).item()) for one in others]
        best = others[missed.index(min(missed))]
        assert found.metrics[place] is best.metrics[place]
        assert torch.equal(found.path.circuits[place], best.path.circuits[place])
    assert chosen_baseline(choice, []) is None
