"""Counterparts of a circuit in control dictionaries: the same procedure, and gaps written out by hand."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import LATENTS, mirror_dictionary, random_dictionary, sites_of

from gossamer.circuits.controls import TREATED, Controls
from gossamer.circuits.evaluate.against_controls import _gaps, against_controls, shuffled_latents
from gossamer.circuits.find import CircuitResult, find_circuit
from gossamer.circuits.methods import mask_path
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import StudySettings
from gossamer.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import Task

SEARCH = SearchSettings(sizes=(40, 20), steps=15, batch_size=6, learning_rate=0.3)
SITES = sites_of("resid_post.1", "resid_post.2")


@pytest.fixture(scope="module")
def found(model: LanguageModel, task: Task) -> CircuitResult:
    dictionaries = {site: mirror_dictionary(site, seed=seed) for seed, site in enumerate(SITES)}
    chosen = find_circuit(model, dictionaries, task, size=12, settings=StudySettings(seed=2), search=SEARCH)
    refiner = chosen.study.method_inputs(chosen.search).refiner(chosen.path)
    return replace(chosen, path=refiner.improved(chosen.path))


@pytest.fixture(scope="module")
def held(found: CircuitResult) -> Controls:
    itself = dict(found.study.dictionaries)
    shuffled = shuffled_latents(found.study.dictionaries, seed=1)
    held = against_controls(found, {"itself": itself, "shuffled": shuffled})
    assert held is not None
    return held


def test_dictionaries_as_their_own_control_have_the_same_circuits_and_no_gap(held: Controls) -> None:
    itself = held.controls[0]
    assert (held.treated.name, itself.name) == (TREATED, "itself")
    assert replace(itself, name=TREATED) == held.treated
    for gap in held.gaps:
        assert gap.best == "itself" or gap.control < gap.treated
    alone = [gap for gap in held.gaps if gap.best == "itself"]
    assert alone
    assert all((gap.gap.value, gap.gap.low, gap.gap.high) == (0.0, 0.0, 0.0) for gap in alone)
    assert not any(gap.shown for gap in alone)


def test_the_treated_arm_is_the_reported_path_on_held_out_prompts(found: CircuitResult, held: Controls) -> None:
    evaluator = found.study.evaluator
    assert held.size == len(found.nodes)
    assert [point.size for point in held.treated.points] == found.path.sizes
    for point, circuit in zip(held.treated.points, found.path.circuits, strict=True):
        measured = evaluator.task_metrics("", evaluator.prompt_metrics(found.path.nodes.select(circuit)))
        assert (point.faithfulness, point.kl) == (measured.faithfulness, measured.kl)
    whole = evaluator.task_metrics("", evaluator.dictionaries)
    assert held.treated.dictionaries.faithfulness == whole.faithfulness
    assert held.treated.circuit.size <= max(held.size, found.path.sizes[-1])


def test_a_control_is_searched_by_the_same_method_and_settings(found: CircuitResult, held: Controls) -> None:
    study = replace(found.study, dictionaries=dict(shuffled_latents(found.study.dictionaries, seed=1)))
    with pytest.warns(match="explained variance"):
        path = mask_path(study.method_inputs(found.search))
    assert [point.size for point in held.controls[1].points] == path.sizes
    expected = [study.evaluator.kept(path.nodes.select(circuit)) for circuit in path.circuits]
    assert [point.faithfulness.value for point in held.controls[1].points] == pytest.approx(expected)


def test_gaps_are_those_of_the_same_samples_of_the_prompts(found: CircuitResult) -> None:
    evaluator = found.study.evaluator
    circuits = [found.path.nodes.select(found.path.circuits[place]) for place in (0, 1)]
    one, two = (evaluator.prompt_metrics(circuit) for circuit in circuits)
    gaps = {gap.claim: gap for gap in _gaps(evaluator, one, [("two", evaluator, two)])}
    full, weights = evaluator.full.prompt_metrics.metric.double(), evaluator.weights

    def distances(rows: torch.Tensor) -> list[float]:
        base = (rows * full).sum()
        return [abs(1 - float((rows * own.metric.double()).sum() / base)) for own in (one, two)]

    drawn = torch.tensor([two_ - one_ for one_, two_ in map(distances, weights)], dtype=torch.float64)
    closeness = gaps["distance of faithfulness from 1"]
    assert (closeness.treated, closeness.control) == pytest.approx(distances(torch.ones_like(weights[0])))
    assert closeness.gap.value == pytest.approx(closeness.control - closeness.treated)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    assert (closeness.gap.low, closeness.gap.high) == pytest.approx((low, high))
    measured = [evaluator.task_metrics("", prompts) for prompts in (one, two)]
    error, kl, wrong = (gaps[name] for name in list(gaps)[1:])
    assert (error.treated, error.control) == pytest.approx(tuple(row.prompt_error.value for row in measured))
    assert (kl.treated, kl.control) == pytest.approx(tuple(row.kl for row in measured))
    assert (wrong.treated, wrong.control) == pytest.approx(tuple(1 - row.accuracy for row in measured))


@pytest.mark.parametrize("architecture", ["relu", "jumprelu", "topk", "batchtopk"])
def test_shuffled_latents_fire_as_before_and_write_one_anothers_directions(architecture: str) -> None:
    site = SITES[0]
    before: Dictionary = random_dictionary(site, architecture)
    after = shuffled_latents({site: before}, seed=1)[site]
    x = torch.randn(9, before.config.d_in, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(before.encode(x).dense(), after.encode(x).dense())
    torch.testing.assert_close(before.W_dec.norm(dim=1), after.W_dec.norm(dim=1))
    units = [one.W_dec / one.W_dec.norm(dim=1, keepdim=True) for one in (before, after)]
    like = units[1] @ units[0].T
    assert sorted(like.argmax(dim=1).tolist()) == list(range(LATENTS))
    torch.testing.assert_close(like.max(dim=1).values, torch.ones(LATENTS, dtype=torch.float64))
    assert (like.argmax(dim=1) != torch.arange(LATENTS)).sum() > LATENTS / 2
    again = [shuffled_latents({site: before}, seed=seed)[site].W_dec for seed in (1, 2)]
    assert torch.equal(again[0], after.W_dec)
    assert not torch.equal(again[1], after.W_dec)


def test_controls_of_other_sites_or_sizes_are_refused_and_none_are_none(found: CircuitResult) -> None:
    assert against_controls(found, {}) is None
    one: dict[Site, Dictionary] = {SITES[0]: mirror_dictionary(SITES[0])}
    with pytest.raises(UsageError, match=r"control one: .*resid_post.2 of 32 latents\), found resid_post.1 of 32"):
        against_controls(found, {"one": one})
    small: dict[Site, Dictionary] = {site: random_dictionary(site) for site in SITES}
    with pytest.raises(UsageError, match=f"found resid_post.1 of {LATENTS} latents"):
        against_controls(found, {"small": small})
