"""The bench against networks written out by hand, and areas against trapezoids."""

import itertools

import pytest
import torch
from circuit_lab import (
    ROLES,
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
    splice = Splice(model, dictionaries, task.test, ablation, all_nodes(dictionaries), batch_size=3)
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
    torch.testing.assert_close(
        bench.full.outcome.logit_diff.double(), differences(own, task.test), rtol=1e-5, atol=1e-5
    )
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
        assert rows[f"+ {site} alone"].logit_diff.value == pytest.approx(expected, rel=1e-5)
        assert expected != pytest.approx(rows["+ all dictionaries"].logit_diff.value, rel=1e-2)


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
        assert point.unique_latents == len({(site, latent) for site, _, latent in chosen.keys()})  # noqa: SIM118
        assert point.unique_latents < point.size or point.size < 10
    shares = [0, 4 / 100, 20 / 100, 50 / 100, 1]
    kept = [
        bench.kept(nodes.none()),
        *(point.behaviour.faithfulness.value for point in reversed(curve.points)),
        bench.kept(nodes),
    ]
    assert len(nodes) == len(ROLES) * 20
    pairs = list(zip(shares, kept, strict=True))
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(pairs))
    distance = sum((b[0] - a[0]) * (abs(1 - a[1]) + abs(1 - b[1])) / 2 for a, b in itertools.pairwise(pairs))
    assert curve.cpr == pytest.approx(area)
    assert curve.cmd == pytest.approx(distance)


def test_areas_by_hand() -> None:
    # Shares 0, 0.25, 0.5, 1 with 0, 0.8, 1.2, 1: trapezoids 0.1 + 0.25 + 0.55, and of the distance to 1.
    cpr, cmd = areas([(50, 1.2), (25, 0.8)], 100, (0.0, 1.0))
    assert cpr == pytest.approx(0.9)
    assert cmd == pytest.approx(0.25 * 0.6 + 0.25 * 0.2 + 0.5 * 0.1)
    assert areas([], 10, (1.0, 1.0)) == pytest.approx((1.0, 0.0))
    # A circuit of all candidates is measured, not assumed.
    assert areas([(10, 0.5)], 10, (0.0, 99.0))[0] == pytest.approx(0.25)
