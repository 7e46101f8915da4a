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
from gossamer.circuits.evaluate.bench import Bench, areas
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import Path
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


def make_bench(model: LanguageModel, task: Task, *names: str) -> Bench:
    sites = sites_of(*names)
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    ablation = Ablation.measure(model, dictionaries, task)
    splice = Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries), batch_size=3)
    return Bench(splice, seed=1)


@pytest.fixture(scope="module")
def bench(model: LanguageModel, task: Task) -> Bench:
    return make_bench(model, task, "resid_post.1", "mlp_out.2")


@pytest.fixture(scope="module")
def circuit(bench: Bench) -> Nodes:
    return random_choice(bench.splice.nodes, 60)


def faithfulness_by_hand(bench: Bench, nodes: Nodes, weight: float, rest: float) -> float:
    mask = torch.full((len(nodes),), weight, dtype=torch.float64)
    grids = grids_of(nodes, mask, bench.splice.dictionaries, rest)
    with torch.no_grad():
        own = bench.splice.model.logits(bench.splice.examples.clean.tokens, at=bench.splice.examples.clean.end)
    found = differences(by_hand(bench.splice, grids), bench.splice.examples)
    return (found.mean() / differences(own, bench.splice.examples).mean()).item()


def test_the_circuit_its_absence_and_the_dictionaries_by_hand(bench: Bench, circuit: Nodes) -> None:
    nothing = circuit.none()
    assert bench.kept(circuit) == pytest.approx(faithfulness_by_hand(bench, circuit, 1.0, 0.0), rel=1e-5)
    without = bench.faithfulness(bench.without(circuit))
    assert without == pytest.approx(faithfulness_by_hand(bench, circuit, 0.0, 1.0), rel=1e-5)
    whole = bench.faithfulness(bench.dictionaries)
    assert whole == pytest.approx(faithfulness_by_hand(bench, nothing, 1.0, 1.0), rel=1e-5)
    assert bench.kept(nothing) == pytest.approx(faithfulness_by_hand(bench, nothing, 1.0, 0.0), rel=1e-5)
    assert len({round(value, 3) for value in (bench.kept(circuit), without, whole, bench.kept(nothing), 1.0)}) == 5


def test_the_full_model_is_the_reference_of_its_own_prompts(bench: Bench, task: Task) -> None:
    with torch.no_grad():
        own = bench.splice.model.logits(task.test.clean.tokens, at=task.test.clean.end)
    torch.testing.assert_close(bench.full.outcome.metric.double(), differences(own, task.test), rtol=1e-5, atol=1e-5)
    assert bench.faithfulness(bench.full.outcome) == 1.0
    found = bench.behaviour("full model", bench.full.outcome)
    assert (found.faithfulness.value, found.faithfulness.low, found.faithfulness.high) == (1.0, 1.0, 1.0)
    assert found.accuracy == 1.0
    assert found.kl == 0.0
    assert found.prompt_error.value == 0.0


def test_references_are_measured_once(model: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench(model, task, "resid_post.2")
    runs: list[int] = []
    real = Splice.full
    monkeypatch.setattr(Splice, "full", lambda self, rows: runs.append(1) or real(self, rows))
    for _ in range(3):
        bench.behaviour("nothing", bench.outcome(bench.splice.nodes.none()))
    assert len(runs) == 3, "eight prompts in batches of three, once"


def test_the_budget_has_every_network_in_order(bench: Bench, circuit: Nodes) -> None:
    rows = bench.budget(circuit)
    assert [row.name for row in rows] == [
        "full model",
        "+ resid_post.1 alone",
        "+ mlp_out.2 alone",
        "+ all dictionaries",
        "circuit",
        "empty circuit",
    ]
    assert rows[0] == bench.behaviour("full model", bench.full.outcome)
    assert rows[3] == bench.behaviour("+ all dictionaries", bench.dictionaries)
    assert rows[3].faithfulness_to_dictionaries.value == 1.0
    assert rows[4] == bench.behaviour("circuit", bench.outcome(circuit))
    assert rows[5] == bench.behaviour("empty circuit", bench.outcome(circuit.none()))


def test_a_dictionary_alone_by_hand(bench: Bench) -> None:
    splice = bench.splice
    clean = splice.examples.clean
    rows = {row.name: row for row in bench.budget(splice.nodes.none())}
    for site, dictionary in splice.dictionaries.items():
        errors = splice.ablation.sites[site].error[clean.slots.clamp(min=0)].double()

        def spliced(x: torch.Tensor, dictionary=dictionary, errors=errors) -> torch.Tensor:
            return torch.where((clean.roles < 0)[..., None], x, dictionary(x) + errors)

        with torch.no_grad(), splice.model.edit({site: spliced}):
            logits = splice.model.logits(clean.tokens, at=clean.end)
        expected = differences(logits, splice.examples).mean().item()
        assert rows[f"+ {site} alone"].metric.value == pytest.approx(expected, rel=1e-5)
        assert expected != pytest.approx(rows["+ all dictionaries"].metric.value, rel=1e-2)


def test_one_dictionary_has_no_line_of_its_own(model: LanguageModel, task: Task) -> None:
    bench = make_bench(model, task, "resid_post.2")
    assert [row.name for row in bench.budget(bench.splice.nodes.none())] == [
        "full model",
        "+ all dictionaries",
        "circuit",
        "empty circuit",
    ]


def test_a_curve_has_every_circuit_of_the_path_and_the_areas_under_it(bench: Bench) -> None:
    nodes = bench.splice.nodes.select(torch.arange(0, len(bench.splice.nodes), 2))
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(0))
    curve = bench.curve(Path.from_order("chance", nodes, order, (50, 20, 4), 1.5))
    assert (curve.method, curve.seconds) == ("chance", 1.5)
    assert [point.size for point in curve.points] == [50, 20, 4]
    for point in curve.points:
        chosen = nodes.select(order[: point.size])
        assert point.behaviour == bench.behaviour("chance", bench.outcome(chosen))
        assert point.unique_latents == len({node.feature for node in chosen.keys()})  # noqa: SIM118
        assert point.unique_latents < point.size or point.size < 10
    assert len(bench.splice.nodes) == 200
    empty, whole = bench.kept(nodes.none()), bench.kept(bench.splice.nodes)
    kept = [empty, *(point.behaviour.faithfulness.value for point in reversed(curve.points)), whole]
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


def test_the_same_circuits_have_the_same_areas_whatever_they_were_chosen_from(bench: Bench) -> None:
    everything = bench.splice.nodes
    few = Bench(bench.splice.over(random_choice(everything, 80)), seed=1)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    narrow = Path.from_order("candidates", few.splice.nodes, order, (50, 20, 4), 0.0)
    inside = everything.find(few.splice.nodes.keys())
    wide = Path("every node", everything, tuple(inside[circuit] for circuit in narrow.circuits), 0.0)
    one, other = few.curve(narrow), few.curve(wide)
    assert [point.size for point in one.points] == [point.size for point in other.points]
    assert (other.cpr, other.cmd) == pytest.approx((one.cpr, one.cmd), rel=1e-6)
    # A circuit of more nodes than there are candidates is shown, and left out of the areas.
    more = Path("every node", everything, (torch.arange(150), *wide.circuits), 0.0)
    assert [point.size for point in few.curve(more).points] == [150, 50, 20, 4]
    assert (few.curve(more).cpr, few.curve(more).cmd) == (other.cpr, other.cmd)


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


def with_cases(bench: Bench, cases: list[str]) -> Bench:
    splice = bench.splice.over(bench.splice.nodes)
    prompts = tuple(replace(prompt, case=case) for prompt, case in zip(splice.examples.prompts, cases, strict=True))
    examples = replace(splice.examples, prompts=prompts)
    splice = replace(splice, prompts=replace(splice.prompts, examples=examples))
    return Bench(splice, seed=1)


def test_cases_are_the_prompts_of_each_kind_apart(bench: Bench, circuit: Nodes) -> None:
    kinds = ["works", "fails", "works", "", "works", "fails", "works", "fails"]
    own = bench.full.outcome.metric.double()
    kept, spliced = bench.outcome(circuit), bench.dictionaries.metric.double()
    found = with_cases(bench, kinds).cases(circuit)
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


def test_prompts_without_a_case_have_none(bench: Bench, circuit: Nodes) -> None:
    assert with_cases(bench, [""] * 8).cases(circuit) == ()
    (case,) = with_cases(bench, ["one"] * 8).cases(circuit)
    assert case.circuit == bench.behaviour("circuit", bench.outcome(circuit))
