"""The bench against networks written out by hand, and areas against trapezoids."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from circuit_lab import (
    all_nodes,
    by_hand,
    differences,
    grids_of,
    random_choice,
    random_dictionary,
    sites_of,
)

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.evaluate.evaluator import Evaluator, areas
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


def make_bench(model: LanguageModel, task: Task, *names: str) -> Evaluator:
    sites = sites_of(*names)
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    ablation = Ablation.measure(model, dictionaries, task)
    splice = Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries), batch_size=3)
    return Evaluator(splice, seed=1)


@pytest.fixture(scope="module")
def evaluator(model: LanguageModel, task: Task) -> Evaluator:
    return make_bench(model, task, "resid_post.1", "mlp_out.2")


@pytest.fixture(scope="module")
def circuit(evaluator: Evaluator) -> Nodes:
    return random_choice(evaluator.splice.nodes, 60)


def faithfulness_by_hand(evaluator: Evaluator, nodes: Nodes, weight: float, rest: float) -> float:
    mask = torch.full((len(nodes),), weight, dtype=torch.float64)
    grids = grids_of(nodes, mask, evaluator.splice.dictionaries, rest)
    with torch.no_grad():
        own = evaluator.splice.model.logits(
            evaluator.splice.examples.clean.tokens, at=evaluator.splice.examples.clean.answer_position
        )
    found = differences(by_hand(evaluator.splice, grids), evaluator.splice.examples)
    return (found.mean() / differences(own, evaluator.splice.examples).mean()).item()


def test_the_circuit_its_absence_and_the_dictionaries_by_hand(evaluator: Evaluator, circuit: Nodes) -> None:
    nothing = circuit.none()
    assert evaluator.kept(circuit) == pytest.approx(faithfulness_by_hand(evaluator, circuit, 1.0, 0.0), rel=1e-5)
    without = evaluator.faithfulness(evaluator.without(circuit))
    assert without == pytest.approx(faithfulness_by_hand(evaluator, circuit, 0.0, 1.0), rel=1e-5)
    whole = evaluator.faithfulness(evaluator.dictionaries)
    assert whole == pytest.approx(faithfulness_by_hand(evaluator, nothing, 1.0, 1.0), rel=1e-5)
    assert evaluator.kept(nothing) == pytest.approx(faithfulness_by_hand(evaluator, nothing, 1.0, 0.0), rel=1e-5)
    assert (
        len({round(value, 3) for value in (evaluator.kept(circuit), without, whole, evaluator.kept(nothing), 1.0)}) == 5
    )


def test_the_full_model_is_the_reference_of_its_own_prompts(evaluator: Evaluator, task: Task) -> None:
    with torch.no_grad():
        own = evaluator.splice.model.logits(task.test.clean.tokens, at=task.test.clean.answer_position)
    torch.testing.assert_close(
        evaluator.full.prompt_metrics.metric.double(), differences(own, task.test), rtol=1e-5, atol=1e-5
    )
    assert evaluator.faithfulness(evaluator.full.prompt_metrics) == 1.0
    found = evaluator.task_metrics("full model", evaluator.full.prompt_metrics)
    assert (found.faithfulness.value, found.faithfulness.low, found.faithfulness.high) == (1.0, 1.0, 1.0)
    assert found.accuracy == 1.0
    assert found.kl == 0.0
    assert found.prompt_error.value == 0.0


def test_references_are_measured_once(model: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make_bench(model, task, "resid_post.2")
    runs: list[int] = []
    real = Splice.full
    monkeypatch.setattr(Splice, "full", lambda self, rows: runs.append(1) or real(self, rows))
    for _ in range(3):
        evaluator.task_metrics("nothing", evaluator.prompt_metrics(evaluator.splice.nodes.none()))
    assert len(runs) == 3, "eight prompts in batches of three, once"


def test_the_budget_has_every_network_in_order(evaluator: Evaluator, circuit: Nodes) -> None:
    rows = evaluator.budget(circuit)
    assert [row.name for row in rows] == [
        "full model",
        "+ resid_post.1 alone",
        "+ mlp_out.2 alone",
        "+ all dictionaries",
        "circuit",
        "empty circuit",
    ]
    assert rows[0] == evaluator.task_metrics("full model", evaluator.full.prompt_metrics)
    assert rows[3] == evaluator.task_metrics("+ all dictionaries", evaluator.dictionaries)
    assert rows[3].faithfulness_to_dictionaries.value == 1.0
    assert rows[4] == evaluator.task_metrics("circuit", evaluator.prompt_metrics(circuit))
    assert rows[5] == evaluator.task_metrics("empty circuit", evaluator.prompt_metrics(circuit.none()))


def test_a_dictionary_alone_by_hand(evaluator: Evaluator) -> None:
    splice = evaluator.splice
    clean = splice.examples.clean
    rows = {row.name: row for row in evaluator.budget(splice.nodes.none())}
    for site, dictionary in splice.dictionaries.items():
        errors = splice.ablation.sites[site].error[clean.ablation_groups.clamp(min=0)].double()

        def spliced(x: torch.Tensor, dictionary=dictionary, errors=errors) -> torch.Tensor:
            return torch.where((clean.roles < 0)[..., None], x, dictionary(x) + errors)

        with torch.no_grad(), splice.model.edit({site: spliced}):
            logits = splice.model.logits(clean.tokens, at=clean.answer_position)
        expected = differences(logits, splice.examples).mean().item()
        assert rows[f"+ {site} alone"].metric.value == pytest.approx(expected, rel=1e-5)
        assert expected != pytest.approx(rows["+ all dictionaries"].metric.value, rel=1e-2)


def test_one_dictionary_has_no_line_of_its_own(model: LanguageModel, task: Task) -> None:
    evaluator = make_bench(model, task, "resid_post.2")
    assert [row.name for row in evaluator.budget(evaluator.splice.nodes.none())] == [
        "full model",
        "+ all dictionaries",
        "circuit",
        "empty circuit",
    ]


def test_a_curve_has_every_circuit_of_the_path_and_the_areas_under_it(evaluator: Evaluator) -> None:
    nodes = evaluator.splice.nodes.select(torch.arange(0, len(evaluator.splice.nodes), 2))
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(0))
    curve = evaluator.curve(evaluator.measured(CircuitPath.from_order("chance", nodes, order, (50, 20, 4), 1.5)))
    assert (curve.method, curve.seconds) == ("chance", 1.5)
    assert [point.size for point in curve.points] == [50, 20, 4]
    for point in curve.points:
        chosen = nodes.select(order[: point.size])
        assert point.task_metrics == evaluator.task_metrics("chance", evaluator.prompt_metrics(chosen))
        assert point.unique_latents == len({node.feature for node in chosen.keys()})  # noqa: SIM118
        assert point.unique_latents < point.size or point.size < 10
    assert len(evaluator.splice.nodes) == 200
    empty, whole = evaluator.kept(nodes.none()), evaluator.kept(evaluator.splice.nodes)
    kept = [empty, *(point.task_metrics.faithfulness.value for point in reversed(curve.points)), whole]
    assert (curve.cpr, curve.cmd) == pytest.approx(mib_areas([0, 4, 20, 50, 200], kept))


def mib_areas(sizes: list[int], kept: list[float]) -> tuple[float, float]:
    """Trapezoids of MIB's faithfulness and of its distance to 1, by hand."""
    normalised = [(value - kept[0]) / (1 - kept[0]) for value in kept]
    steps = [(after - before) / sizes[-1] for before, after in itertools.pairwise(sizes)]
    pairs = list(zip(steps, itertools.pairwise(normalised), strict=True))
    return (
        sum(step * (a + b) / 2 for step, (a, b) in pairs),
        sum(step * (abs(1 - a) + abs(1 - b)) / 2 for step, (a, b) in pairs),
    )


def test_the_same_circuits_have_the_same_areas_whatever_they_were_chosen_from(evaluator: Evaluator) -> None:
    everything = evaluator.splice.nodes
    few = Evaluator(evaluator.splice.with_nodes(random_choice(everything, 80)), seed=1)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    narrow = CircuitPath.from_order("candidates", few.splice.nodes, order, (50, 20, 4), 0.0)
    inside = everything.find(few.splice.nodes.keys())
    wide = CircuitPath("every node", everything, tuple(inside[circuit] for circuit in narrow.circuits), 0.0)
    one, other = (few.curve(few.measured(path)) for path in (narrow, wide))
    assert [point.size for point in one.points] == [point.size for point in other.points]
    assert (other.cpr, other.cmd) == pytest.approx((one.cpr, one.cmd), rel=1e-6)
    # A circuit of more nodes than there are candidates is shown, and left out of the areas.
    more = CircuitPath("every node", everything, (torch.arange(150), *wide.circuits), 0.0)
    longer = few.curve(few.measured(more))
    assert [point.size for point in longer.points] == [150, 50, 20, 4]
    assert (longer.cpr, longer.cmd) == (other.cpr, other.cmd)


def test_areas_by_hand() -> None:
    # Shares 0, 0.25, 0.5, 1 with 0, 0.8, 1.2, 1: trapezoids 0.1 + 0.25 + 0.55, and of the distance to 1.
    cpr, cmd = areas([(50, 1.2), (25, 0.8)], 100, (0.0, 1.0))
    assert cpr == pytest.approx(0.9)
    assert cmd == pytest.approx(0.25 * 0.6 + 0.25 * 0.2 + 0.5 * 0.1)
    # The empty circuit keeps 0.2: 0.6 is half of the way to 1, and 1 all of it. Trapezoids 0.5 * 0.25 + 0.5 * 0.75.
    assert areas([(5, 0.6)], 10, (0.2, 1.0)) == pytest.approx((0.5, 0.5))
    # An empty circuit below zero: -0.5 .. 1 is the whole way, and 0.25 is half of it.
    assert areas([(5, 0.25)], 10, (-0.5, 1.0)) == pytest.approx((0.5, 0.5))
    # A circuit of all candidates is measured, not assumed.
    assert areas([(10, 0.5)], 10, (0.0, 99.0))[0] == pytest.approx(0.25)
    assert areas([(20, 50.0), (5, 0.5)], 10, (0.0, 1.0)) == areas([(5, 0.5)], 10, (0.0, 1.0))
    assert all(math.isnan(area) for area in areas([(5, 0.5)], 10, (1.0, 1.0)))


def with_cases(evaluator: Evaluator, cases: list[str]) -> Evaluator:
    splice = evaluator.splice.with_nodes(evaluator.splice.nodes)
    prompts = tuple(replace(prompt, case=case) for prompt, case in zip(splice.examples.prompts, cases, strict=True))
    examples = replace(splice.examples, prompts=prompts)
    splice = replace(splice, prompts=replace(splice.prompts, examples=examples))
    return Evaluator(splice, seed=1)


def test_cases_are_the_prompts_of_each_kind_apart(evaluator: Evaluator, circuit: Nodes) -> None:
    kinds = ["works", "fails", "works", "", "works", "fails", "works", "fails"]
    own = evaluator.full.prompt_metrics.metric.double()
    kept, spliced = evaluator.prompt_metrics(circuit), evaluator.dictionaries.metric.double()
    found = with_cases(evaluator, kinds).cases(circuit)
    assert [(case.name, case.prompts) for case in found] == [("works", 4), ("fails", 3), ("", 1)]
    for case in found:
        rows = [row for row, kind in enumerate(kinds) if kind == case.name]
        mine = kept.metric.double()[rows]
        assert case.full.metric.value == pytest.approx(own[rows].mean().item())
        assert case.circuit.metric.value == pytest.approx(mine.mean().item())
        ratio = (mine.sum() / own[rows].sum()).item()
        assert case.circuit.faithfulness.value == pytest.approx(ratio)
        to_dictionaries = (mine.sum() / spliced[rows].sum()).item()
        assert case.circuit.faithfulness_to_dictionaries.value == pytest.approx(to_dictionaries)
        assert case.circuit.accuracy == (mine > 0).double().mean().item()
        assert case.circuit.top1 == kept.top1[rows].double().mean().item()
        error = ((mine - own[rows]).abs().sum() / own[rows].sum()).item()
        assert case.circuit.prompt_error.value == pytest.approx(error)
        assert case.circuit.faithfulness.low <= ratio + 1e-9
        assert case.full.faithfulness.value == 1.0
    assert len({round(case.circuit.faithfulness.value, 3) for case in found}) == 3


def test_prompts_without_a_case_have_none(evaluator: Evaluator, circuit: Nodes) -> None:
    assert with_cases(evaluator, [""] * 8).cases(circuit) == ()
    (case,) = with_cases(evaluator, ["one"] * 8).cases(circuit)
    assert case.circuit == evaluator.task_metrics("circuit", evaluator.prompt_metrics(circuit))
