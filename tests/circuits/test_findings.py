"""Findings of a tiny study, and the report written from them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from circuit_lab import mirror_dictionary, random_dictionary, sites_of

from gossamer import progress
from gossamer.circuits.attribution import attribution_patching
from gossamer.circuits.bootstrap import few_texts
from gossamer.circuits.circuit import Circuit, CircuitNode
from gossamer.circuits.find import CircuitResult, find_circuit
from gossamer.circuits.findings import (
    _cautions,
    _cost,
    _uneven,
    collect_findings,
    grouped_nodes,
    prompt_view,
    stability,
)
from gossamer.circuits.methods import MethodInputs, mask_circuit, searched
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.results import Findings, PromptCase
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.dictionary import Dictionary
from gossamer.features import Node
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.report import write_report
from gossamer.statistics import Interval
from gossamer.tasks.prompt import Piece
from gossamer.tasks.split import Split
from gossamer.tasks.task import Task

SEARCH = SearchSettings(sizes=(40, 20), steps=15, batch_size=6, learning_rate=0.3)
METHODS = ("attribution patching", "random")


@pytest.fixture(scope="module")
def found(model: LanguageModel, task: Task) -> CircuitResult:
    sites = sites_of("resid_post.1", "resid_post.2")
    dictionaries = {site: mirror_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    for site, dictionary in dictionaries.items():
        dictionary.provenance["sha256"] = f"of {site}"
    return find_circuit(model, dictionaries, task, size=12, settings=StudySettings(seed=2), search=SEARCH)


@pytest.fixture(scope="module")
def other(found: CircuitResult) -> Circuit:
    """A circuit of another task that holds one of the found latents."""
    node = found.circuit.nodes[0]
    return replace(found.circuit, nodes=(CircuitNode(Node(node.feature, "A")),), task="another task", edges=())


@pytest.fixture(scope="module")
def evaluated(found: CircuitResult, other: Circuit) -> Findings:
    return collect_findings(found, methods=METHODS, reruns=1, others=[other], subsets=2, warnings=["Mind the gap."])


def improved(given: MethodInputs) -> CircuitPath:
    return given.refiner().improved(searched(given))


def test_every_part_is_of_the_circuit_that_was_found(found: CircuitResult, evaluated: Findings) -> None:
    evaluator, circuit = found.study.evaluator, found.circuit
    assert (evaluated.task, evaluated.model) == (circuit.task, circuit.model)
    assert evaluated.sites == sites_of("resid_post.1", "resid_post.2")
    assert evaluated.roles == found.study.task.role_names
    assert {card.node: card.effect for card in evaluated.nodes} == {node.node: node.score for node in circuit.nodes}
    assert [row.name for row in evaluated.budget][-3:] == ["+ all dictionaries", "circuit", "empty circuit"]
    assert evaluated.budget[-2].faithfulness.value == pytest.approx(circuit.measured["faithfulness"], rel=1e-6)
    assert [curve.method for curve in evaluated.curves] == ["mask", *METHODS]
    sizes = [[point.size for point in curve.points] for curve in evaluated.curves]
    assert sizes[0] == [40, 20, 12]
    assert all(one[-3:] == [40, 20, 12] and one[0] == len(found.path.nodes) for one in sizes[1:])
    largest = found.study.method_inputs(found.search).refiner(found.path).improved(found.path).circuits[0]
    assert evaluated.curves[0].points[0].task_metrics == evaluator.task_metrics(
        "mask", evaluator.prompt_metrics(found.path.nodes.select(largest))
    )
    assert [point.size for point in evaluated.completeness.points] == [0, 1, len(circuit.nodes) - 1, len(circuit.nodes)]
    assert evaluated.completeness.points[0].circuit == pytest.approx(circuit.measured["faithfulness"], rel=1e-6)


def test_at_its_size_the_curve_is_of_the_reported_circuit(found: CircuitResult) -> None:
    # Worse nodes in its place on the path: exact steps that every size has do not come to the reported ones.
    chosen = set(found.circuit.positions(found.path.nodes).tolist())
    worse = torch.tensor([place for place in range(len(found.path.nodes)) if place not in chosen][-12:])
    away = replace(found, path=replace(found.path, circuits=(*found.path.circuits[:-1], worse)))
    told = collect_findings(away, methods=[], reruns=0, subsets=2)
    at = {point.size: point.task_metrics for point in told.curves[0].points}
    assert at[len(chosen)] == replace(told.budget[-2], name="mask")


def test_where_it_falls_short_is_reported(found: CircuitResult, evaluated: Findings) -> None:
    assert evaluated.tail is not None
    assert evaluated.tail.mean == pytest.approx(evaluated.budget[-2].kl)
    assert [one.kl for one in evaluated.tail.worst] == sorted((one.kl for one in evaluated.tail.worst), reverse=True)
    assert (evaluated.restored[-1].site, evaluated.restored[-1].role) == (None, None)
    assert evaluated.restored[-1].faithfulness.value == pytest.approx(1.0, abs=1e-6)
    _, (sample,) = stability(found, 1)
    assert {card.node for card in evaluated.nodes if card.recurrence == 1.0} == set(sample) & {
        card.node for card in evaluated.nodes
    }
    assert {card.recurrence for card in evaluated.nodes} <= {0.0, 1.0}
    core = [card.node for card in evaluated.nodes if card.recurrence == 1.0]
    alone = found.study.evaluator.prompt_metrics(found.nodes.select(found.nodes.find(core)))
    assert 0 < len(core) < len(found.nodes)
    assert evaluated.core == found.study.evaluator.task_metrics("core", alone)


def test_nodes_are_grouped_and_the_groups_tested(found: CircuitResult, evaluated: Findings) -> None:
    grouped, test = [node for group in evaluated.groups for node in group.nodes], evaluated.group_test
    assert test is not None
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) <= {card.node for card in evaluated.nodes}
    assert test.shown == len(found.nodes) - len(grouped) + len(evaluated.groups)
    assert test.circuit.value == pytest.approx(evaluated.budget[-2].faithfulness.value, rel=1e-6)
    assert {test.shown, test.within} <= {point.boxes for point in test.points}
    few = replace(found, nodes=found.nodes.select(torch.arange(9)))
    assert grouped_nodes(few, evaluated.nodes) == ((), None)


def test_latents_of_other_tasks_are_flagged(found: CircuitResult, evaluated: Findings) -> None:
    shared = found.circuit.nodes[0].feature
    for card in evaluated.nodes:
        assert card.generic == (("another task",) if card.node.feature == shared else ())


def test_settings_say_how_to_run_it_again(found: CircuitResult, evaluated: Findings) -> None:
    settings = evaluated.settings
    assert settings["candidates"] == str(len(found.path.nodes))
    assert settings["method"] == "mask"
    assert settings["target"] == "size 12.0"
    assert settings["prompts"] == "12 searched on, 12 for ablation values, 8 held out"
    assert settings["seed"] == "2"
    assert settings["ablation"].startswith("mean: a latent goes to its mean over the counterfactuals")
    assert settings["errors"] == "mean"
    assert "steps 15" in settings["method settings"]
    assert "sizes [40, 20, 12]" in settings["method settings"]
    assert settings["dictionary resid_post.1"] == "relu, 32 latents, made in this session"
    assert all(isinstance(value, str) for value in settings.values())


def test_the_same_search_finds_the_same_circuits(found: CircuitResult) -> None:
    again = improved(found.study.method_inputs(found.search))
    drawn = found.study.method_inputs(found.search).refiner(found.path).improved(found.path)
    assert [set(circuit.tolist()) for circuit in again.circuits] == [set(c.tolist()) for c in drawn.circuits]


def test_searches_are_compared_with_like_searches(found: CircuitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[MethodInputs] = []

    def watched(given: MethodInputs, place: int) -> torch.Tensor:
        seen.append(given)
        return mask_circuit(given, place)

    monkeypatch.setattr("gossamer.circuits.findings.mask_circuit", watched)
    # As if pruning had left 11 of the 12 nodes.
    pruned = replace(found, nodes=found.nodes.select(torch.arange(11)))
    overlaps = {one.kind: one for one in stability(pruned, 2)[0]}
    answers = found.study.examples.answer.tolist()
    rows = [given.fitted.splice.examples.answer.tolist() for given in seen]
    assert all(given.search == found.search for given in seen)
    assert rows[2:] == [answers[::2], answers[1::2]]
    for drawn in rows[:2]:
        assert len(drawn) == len(answers)
        assert set(drawn) < set(answers)
    assert rows[0] != rows[1]
    assert list(overlaps) == ["bootstrap", "gradients", "split", "size"]
    assert overlaps["bootstrap"].labels == ("all prompts", "sample 1", "sample 2")
    assert overlaps["bootstrap"].sizes == (12, 12, 12)
    assert (overlaps["split"].labels, overlaps["split"].sizes) == (("half 1", "half 2"), (12, 12))
    assert overlaps["size"].labels == ("40", "20", "12")
    ranked = []
    for one in (found.study.method_inputs(found.search), *seen[:2]):
        scores = attribution_patching(one.training.splice)
        ranked.append(set(torch.argsort(scores, descending=True)[:12].tolist()))
    for row, one in enumerate(ranked):
        shared = overlaps["gradients"].jaccard[row]
        assert shared == tuple(len(one & other) / len(one | other) for other in ranked)
    paths = [found.path, *map(improved, seen[:2])]
    searched = [set(path.nodes.select(path.of_size(12)).keys()) for path in paths]
    for row, one in enumerate(searched):
        assert overlaps["bootstrap"].jaccard[row] == tuple(len(one & other) / len(one | other) for other in searched)


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """The work that begins inside, each with what it is a part of."""
    begun: list[tuple[str, str]] = []
    reporter = SimpleNamespace(
        announce=lambda text: None,
        begin=lambda what, total, part_of: begun.append((part_of, what)) or (lambda steps, note: None),
    )
    token = progress._reporter.set(reporter)
    try:
        yield begun
    finally:
        progress._reporter.reset(token)


def test_how_far_a_report_is_is_told_in_each_of_its_long_parts(found: CircuitResult) -> None:
    with watched() as begun:
        collect_findings(found, methods=METHODS, reruns=0, subsets=2)
    sizes = [part for part, what in begun if what == "circuits of every size"]
    assert sizes == ["mask", *METHODS]
    parts = {"baselines on validation prompts", "completeness", "restored errors", "graphs of held-out prompts"}
    assert parts <= {what for _, what in begun}


def test_what_is_said_of_a_report_before_it_is_made(found: CircuitResult) -> None:
    with watched() as begun:
        stability(found, 1)
    searches = [part for part, what in begun if what == "mask search"]
    assert searches == ["sample 1 of 1", "half 1 of 2", "half 2 of 2"]
    assert _cost(found, METHODS, 1).startswith(
        "the report of by hand: 2 other methods at every size, the search again on"
    )
    assert "about" in _cost(found, METHODS, 0)
    assert "again" not in _cost(found, METHODS, 0)
    assert _cost(found, METHODS, 0).endswith("(not counted: searches of controls and families, edge tests)")
    dear = _cost(found, [*METHODS, "greedy", "FAP-Synergy, signed"], 0)
    assert dear.endswith("(not counted: searches of controls and families, edge tests, greedy, FAP-Synergy, signed)")


def test_samples_of_a_rerun_take_from_both_sides(found: CircuitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    given = found.study.method_inputs(found.search)
    sides = Split(tuple(range(8)), tuple(range(8, 12)), ())
    divided = MethodInputs.divided(given.training, sides, given.search)
    monkeypatch.setattr(Study, "method_inputs", lambda self, search: divided)
    seen: list[MethodInputs] = []
    monkeypatch.setattr(
        "gossamer.circuits.findings.mask_circuit", lambda one, place: seen.append(one) or found.path.circuits[place]
    )
    stability(found, 1)
    answers = found.study.examples.answer.tolist()
    for one in seen:
        assert one.validation is not None
        assert set(one.fitted.splice.examples.answer.tolist()) <= set(answers[:8])
        assert set(one.validation.splice.examples.answer.tolist()) <= set(answers[8:])
        both = [*one.fitted.splice.examples.answer.tolist(), *one.validation.splice.examples.answer.tolist()]
        assert one.training.splice.examples.answer.tolist() == both, "masks are fitted to all that is drawn"
    assert [len(one.validation.splice.examples) for one in seen if one.validation] == [4, 2, 2]


def test_a_circuit_larger_than_the_path_is_compared_at_the_largest_size(found: CircuitResult) -> None:
    larger = replace(found, nodes=found.path.nodes.select(torch.arange(50)))
    assert {one.kind: one.sizes for one in stability(larger, 1)[0]}["split"] == (40, 40)


def test_without_reruns_only_sizes_are_compared(found: CircuitResult) -> None:
    overlaps, samples = stability(found, 0)
    assert [one.kind for one in overlaps] == ["size"]
    assert samples == []


def _cased(found: CircuitResult, kinds: list[str]) -> CircuitResult:
    test = found.study.task.test
    prompts = tuple(replace(prompt, case=case) for prompt, case in zip(test.prompts, kinds, strict=True))
    task = replace(found.study.task, test=replace(test, prompts=prompts))
    return replace(found, study=replace(found.study, task=task))


def test_cases_are_reported(found: CircuitResult, evaluated: Findings) -> None:
    assert evaluated.cases == ()
    cased = collect_findings(_cased(found, ["works", "fails"] * 4), methods=(), reruns=0, subsets=0)
    assert [(case.name, case.prompts) for case in cased.cases] == [("fails", 4), ("works", 4)]
    circuit = cased.budget[-2].metric.value
    assert sum(case.circuit.metric.value for case in cased.cases) / 2 == pytest.approx(circuit, rel=1e-6)


def test_a_case_that_is_kept_much_worse_is_warned_of() -> None:
    def case(name: str, prompts: int, kept: float, full: float = 4.0) -> PromptCase:
        def does(network: str, share: float) -> TaskMetrics:
            value, difference = Interval(share, share, share), Interval(full * share, full * share, full * share)
            return TaskMetrics(network, difference, value, value, 1.0, 1.0, 0.0, value)

        return PromptCase(name, prompts, does("full model", 1.0), does("circuit", kept))

    even = [case("fails", 40, 0.98), case("few", 7, 0.1), case("works", 40, 0.65), case("hopeless", 9, 0.1, full=-1.0)]
    kept = Interval(0.81, 0.7, 0.9)
    assert _uneven(even, kept) == ()
    (said,) = _uneven([*even, case("worse", 8, 0.6)], kept)
    assert "keeps 81% of the logit difference over all held-out prompts" in said
    assert "only 60% on the 8 prompts of case 'worse':" in said
    many = [case(f"kind {number}", 10, 0.1 * number) for number in range(1, 8)]
    (said,) = _uneven(many, Interval(1.0, 1.0, 1.0))
    assert said.index("10% on the 10") < said.index("20% on the 10") < said.index("30% on the 10")
    assert "(and 4 more cases like these)" in said
    # A circuit that does nothing is not "only" worse somewhere: -8 % of one kind beside -6 % of all.
    assert _uneven([case("BABA", 33, -0.08)], Interval(-0.06, -0.18, 0.06)) == ()
    assert _uneven([case("BABA", 33, -0.08)], Interval(0.06, 0.01, 0.12)) != ()


def test_the_prompt_has_its_tokens_and_roles_without_padding(found: CircuitResult, task: Task) -> None:
    for row in (0, 1):
        view = prompt_view(found.study, row)
        ids, length = task.test.clean.tokens.ids[row], int(task.test.clean.answer_position[row]) + 1
        assert view.tokens == tuple(f"w{token}" for token in ids[:length].tolist())
        assert view.roles[0] is None
        assert view.roles[1:] == tuple(task.role_names[role] for role in task.test.clean.roles[row, 1:length].tolist())
        assert view.answer == f"w{int(task.test.answer[row])}"
        assert view.incorrect == f"w{int(task.test.incorrect[row])}"
        assert len(view.counterfactual) == length


def test_dictionaries_that_cost_much_are_warned_of(
    found: CircuitResult, evaluated: Findings, model: LanguageModel, task: Task
) -> None:
    assert evaluated.warnings[:2] == ("Mind the gap.", *few_texts(task.test))
    assert "8 different texts" in evaluated.warnings[1]
    assert "chosen on the prompts that it was fitted to" in evaluated.warnings[2]
    assert len(evaluated.warnings) == 3
    site = Site.parse("resid_post.2")
    poor: dict[Site, Dictionary] = {site: random_dictionary(site, n_latents=8)}
    lossy = Study(model, poor, task, StudySettings(errors="drop", minimum_accuracy=0.0))
    with pytest.warns(match="explained variance"):
        kept = lossy.evaluator.faithfulness(lossy.evaluator.dictionaries)
    assert kept < 0.9
    nodes = lossy.nodes.select(torch.arange(2))
    circuit = Circuit.from_nodes(lossy.nodes, torch.arange(2), model="m", task="t", provenance=found.circuit.provenance)
    path = replace(found.path, method="by hand", nodes=lossy.nodes, circuits=(torch.arange(2),))
    warned = collect_findings(
        CircuitResult(circuit, nodes, path, lossy, found.effects), methods=(), reruns=0, subsets=0
    ).warnings
    assert len(warned) == 4, "of the dictionaries' files, of few texts, of no validation side, and this"
    assert f"keep {kept:.0%} of the model's logit difference" in warned[3]


def test_counterfactuals_that_argue_for_another_answer_are_warned_of(found: CircuitResult) -> None:
    study = found.study
    opposed = Study(study.model, study.dictionaries, study.task, replace(study.settings, ablation="resample"))
    empty = opposed.evaluator.kept(opposed.nodes.none())
    assert empty < -0.1
    chosen = torch.arange(2)
    circuit = Circuit.from_nodes(
        opposed.nodes, chosen, model="m", task="t", provenance={**found.circuit.provenance, "ablation": "resample"}
    )
    path = replace(found.path, method="by hand", nodes=opposed.nodes, circuits=(chosen,))
    result = CircuitResult(circuit, opposed.nodes.select(chosen), path, opposed, found.effects)
    findings = collect_findings(result, methods=(), reruns=0, subsets=0)
    assert f"without any node {empty:.0%} of the logit difference is left" in findings.warnings[-1]
    assert findings.settings["ablation"].startswith("resample: ")


@pytest.mark.slow
def test_a_report_is_written(evaluated: Findings, tmp_path: Path) -> None:
    page = write_report(evaluated, tmp_path)
    assert "attribution patching" in page.read_text()
    saved = json.loads((tmp_path / "findings.json").read_text())
    assert len(saved["nodes"]) == len(evaluated.nodes)
    assert {file.stem for file in (tmp_path / "figures").iterdir()} >= {
        "circuit_map",
        "curves",
        "budget",
        "completeness",
    }


@pytest.mark.parametrize(("split_by", "names", "told"), [("word", 4, True), ("word", 10, False), ("text", 4, False)])
def test_it_is_told_where_choices_were_made_on_names_that_were_fitted(
    named: Study, split_by: str, names: int, told: bool
) -> None:
    # Of forty prompts nearly all have one name, or each of ten names has four.
    prompts = tuple(
        replace(prompt, clean=(Piece(f"One{row}"), Piece(f" name{row % 10 if names == 10 else max(row - 36, 0)}", "A")))
        for row, prompt in enumerate(named.task.train.prompts)
    )
    provenance = {**named.task.provenance, "split_by": split_by}
    task = replace(named.task, train=replace(named.task.train, prompts=prompts), provenance=provenance)
    study = Study(named.model, named.dictionaries, task, named.settings)
    assert study.sides is not None
    assert any("words of its own" in sentence for sentence in _cautions(study)) == told
