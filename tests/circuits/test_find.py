"""The main job on a tiny network with dictionaries that lose nothing."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from circuit_lab import SEARCH, SETTINGS, mirror_dictionary, random_dictionary, swapped

from gossamer import progress
from gossamer.circuits import methods
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.minimality import node_effects
from gossamer.circuits.find import CircuitResult, _allowed, choose, find_circuit
from gossamer.circuits.measured_circuit import MeasuredCircuit
from gossamer.circuits.methods import METHODS, MethodInputs
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.reference import ReferenceSettings, reference_path
from gossamer.circuits.refine import CircuitRefiner
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.features import Node
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.metric import LOGIT_DIFFERENCE
from gossamer.tasks.task import Task
from gossamer.toys import PROGRAMS, SMOOTH, compile_program, labelled_dictionaries, program_task

METRIC = LOGIT_DIFFERENCE.name


@pytest.fixture(scope="module")
def sized(model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task) -> CircuitResult:
    return find_circuit(model, dictionaries, task, size=15, settings=SETTINGS, search=SEARCH)


@pytest.fixture(scope="module")
def faithful(model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task) -> CircuitResult:
    """With a dictionary at the last site only."""
    last = dict(list(dictionaries.items())[1:])
    return find_circuit(model, last, task, settings=SETTINGS, search=SEARCH)


def test_heads_and_stream_stand_in_one_circuit(model: LanguageModel, task: Task, tmp_path: Path) -> None:
    """A dictionary of what heads give beside one of the stream: nodes of both, and neither is idle."""
    stream, heads = Site("resid_post", 1), Site("z", 2)
    both = {site: mirror_dictionary(site, seed=seed) for seed, site in enumerate((stream, heads))}
    found = find_circuit(model, both, task, size=30, settings=SETTINGS, search=SEARCH)
    assert {node.feature.site for node in found.circuit.nodes} == {stream, heads}
    assert Circuit.load(found.circuit.save(tmp_path / "circuit.json")).nodes == found.circuit.nodes
    evaluator = found.study.evaluator
    assert evaluator.faithfulness(evaluator.dictionaries) == pytest.approx(1, abs=1e-9)
    whole = evaluator.kept(found.nodes)
    for site in (stream, heads):
        place = found.nodes.sites.index(site)
        assert abs(evaluator.kept(found.nodes.select(found.nodes.site != place)) - whole) > 1e-3


def test_a_size_is_searched_for_and_pruned(sized: CircuitResult) -> None:
    assert sized.path.sizes == [80, 40, 20, 15, 10]
    whole = sized.path.nodes.select(sized.path.of_size(15)).keys()
    keys = sized.circuit.keys()
    assert 0 < len(keys) <= 15
    assert set(sized.nodes.keys()) == set(keys)
    train = sized.study.train

    def error(circuit: list[Node]) -> float:
        nodes = sized.path.nodes
        found = train.task_metrics("", train.prompt_metrics(nodes.select(nodes.find(circuit))))
        return found.prompt_error.value + abs(1 - found.faithfulness.value)

    assert error(keys) <= error(whole) + 1e-6
    assert all(error([other for other in keys if other != key]) > error(keys) for key in keys)


@pytest.mark.parametrize("wanted", [0.3, 0.6, 0.99])
def test_the_faithfulness_asked_for_is_met_on_the_training_prompts(faithful: CircuitResult, wanted: float) -> None:
    # Pruning alone only keeps the error of single prompts: at 0.99 it would go below what was asked for.
    study = faithful.study
    found = choose(study, faithful.path, faithfulness=wanted)
    assert study.train.kept(found.nodes) >= wanted
    assert found.circuit.provenance["target"] == {"faithfulness": wanted}
    smallest = next(
        c for c in reversed(faithful.path.circuits) if study.train.kept(faithful.path.nodes.select(c)) >= wanted
    )
    assert len(found.nodes) <= len(smallest)


def test_without_a_target_the_faithfulness_is_nine_tenths(faithful: CircuitResult) -> None:
    assert faithful.circuit.provenance["target"] == {"faithfulness": 0.9}
    assert faithful.study.train.kept(faithful.nodes) >= 0.9


def test_an_impossible_faithfulness_is_refused_with_the_numbers(faithful: CircuitResult) -> None:
    study = faithful.study
    best = max(study.train.kept(faithful.path.nodes.select(circuit)) for circuit in faithful.path.circuits)
    ceiling = study.train.faithfulness(study.train.dictionaries)
    most = faithful.path.sizes[0]
    expected = f"at most {most} nodes keeps 5000% .* by hand: the best keeps {best:.0%}, .*ablation {ceiling:.0%}"
    with pytest.raises(GossamerError, match=expected) as error:
        choose(study, faithful.path, faithfulness=50.0)
    assert not isinstance(error.value, UsageError)
    assert ceiling == pytest.approx(1.0, abs=1e-3), "these dictionaries lose nothing"


@pytest.mark.parametrize(
    ("rows", "accuracy"), [(list(range(12)), "0%"), ([0, 3, 5, 6], "67%")], ids=["always wrong", "often wrong"]
)
def test_a_task_that_the_model_cannot_do_is_refused_before_any_search(
    model: LanguageModel,
    dictionaries: dict[Site, Dictionary],
    task: Task,
    rows: list[int],
    accuracy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = swapped(task, rows)
    for name in ("candidates", "attach", "METHODS"):
        monkeypatch.setattr(f"gossamer.circuits.study.{name}", dict.fromkeys(METHODS) if name == "METHODS" else None)
    monkeypatch.setattr("gossamer.circuits.ablation.Ablation.measure", lambda *_, **__: pytest.fail("a search began"))
    with torch.no_grad():
        logits = model.logits(broken.train.clean.tokens, at=broken.train.clean.answer_position)
    row = torch.arange(12)
    difference = (logits[row, broken.train.answer] - logits[row, broken.train.incorrect]).mean().item()
    expected = rf"cannot do by hand: .* {accuracy} of 12 prompts \(at least 75% .*{re.escape(f'{difference:.2f}')};"
    with pytest.raises(GossamerError, match=expected):
        find_circuit(model, dictionaries, broken, settings=SETTINGS, search=SEARCH)


def test_two_targets_are_refused(model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task) -> None:
    with pytest.raises(UsageError, match="not both"):
        find_circuit(model, dictionaries, task, size=5, faithfulness=0.9)


@pytest.mark.parametrize("size", [0, -3])
def test_a_circuit_of_no_node_is_refused(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, size: int
) -> None:
    with pytest.raises(UsageError, match="size: at least 1 node expected"):
        find_circuit(model, dictionaries, task, size=size, settings=SETTINGS, search=SEARCH)


def test_more_nodes_than_there_are_candidates_are_refused(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    with pytest.raises(UsageError, match=r"size: fewer than the \d+ candidate nodes expected, found 100000"):
        find_circuit(model, dictionaries, task, size=100_000, settings=SETTINGS, search=SEARCH)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_no_circuit_can_keep_is_refused(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, share: float
) -> None:
    with pytest.raises(UsageError, match="faithfulness: a share above 0 and at most 1 expected"):
        find_circuit(model, dictionaries, task, faithfulness=share, settings=SETTINGS, search=SEARCH)


def test_everything_needed_to_find_it_again_is_written_down(sized: CircuitResult) -> None:
    facts = sized.circuit.provenance
    assert facts["method"] == "mask"
    assert facts["target"] == {"size": 15.0}
    wanted = {name: str(value) for name, value in asdict(replace(SEARCH, sizes=[80, 40, 20, 15, 10])).items()}
    assert facts["method_settings"] == wanted
    assert {name: facts[name] for name in asdict(SETTINGS)} == asdict(SETTINGS)
    assert (facts["dtype"], facts["device"]) == ("float64", "cpu")
    assert set(facts["dictionaries"]) == {"resid_post.1", "resid_post.2"}
    assert facts["task"] == {"source": "made by hand"}
    assert set(facts["versions"]) == {"gossamer", "torch", "transformers"}
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "faithfulness lost" in facts["sign"]
    json.dumps(facts, allow_nan=False)


def test_scores_and_numbers_come_from_the_held_out_prompts(sized: CircuitResult, study: Study, task: Task) -> None:
    assert len(study.evaluator.splice.examples) == len(task.test) != len(study.train.splice.examples)
    assert torch.equal(study.evaluator.splice.examples.clean.tokens.ids, task.test.clean.tokens.ids)
    circuit = sized.circuit
    nodes = study.nodes.select(circuit.positions(study.nodes))
    measured = study.evaluator.task_metrics("circuit", study.evaluator.prompt_metrics(nodes))
    assert circuit.measured == pytest.approx(
        {
            "faithfulness": measured.faithfulness.value,
            "faithfulness_to_dictionaries": measured.faithfulness_to_dictionaries.value,
            "accuracy": measured.accuracy,
            "kl": measured.kl,
            "dictionaries_faithfulness": study.evaluator.faithfulness(study.evaluator.dictionaries),
        }
    )
    scores = [node.score for node in circuit.nodes]
    assert scores == pytest.approx(node_effects(study.evaluator, nodes).tolist(), abs=1e-6)
    elsewhere = node_effects(study.train, nodes).tolist()
    assert scores != pytest.approx(elsewhere, abs=1e-3)


def test_edges_run_between_nodes_of_the_circuit(sized: CircuitResult) -> None:
    keys = set(sized.circuit.keys())
    assert sized.circuit.edges
    for edge in sized.circuit.edges:
        assert edge.source in keys
        assert edge.target in keys | {METRIC}
    assert any(edge.target == METRIC for edge in sized.circuit.edges)


def test_a_saved_circuit_measures_the_same(
    sized: CircuitResult, model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, tmp_path: Path
) -> None:
    loaded = Circuit.load(sized.circuit.save(tmp_path / "circuit.json"))
    assert asdict(loaded)["nodes"] == asdict(sized.circuit)["nodes"]
    facts = loaded.provenance
    settings = StudySettings(**{name: facts[name] for name in asdict(SETTINGS)})
    again = Study(model, dictionaries, task, settings)
    nodes = again.nodes.select(loaded.positions(again.nodes))
    assert again.evaluator.kept(nodes) == pytest.approx(loaded.measured["faithfulness"], rel=1e-6)


def test_the_same_seed_finds_the_same_circuit(
    sized: CircuitResult, model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    again = find_circuit(model, dictionaries, task, size=15, settings=SETTINGS, search=SEARCH)
    assert json.dumps(asdict(again.circuit)) == json.dumps(asdict(sized.circuit))


def test_the_search_takes_its_seed_from_the_study_and_is_remembered(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SearchSettings] = []

    def watched(given: MethodInputs) -> CircuitPath:
        seen.append(given.search)
        return METHODS["random"](given)

    monkeypatch.setattr("gossamer.circuits.find.searched", watched)
    found = find_circuit(model, dictionaries, task, size=4, settings=replace(SETTINGS, seed=11))
    assert seen[0].seed == 11
    assert found.search == seen[0]
    assert 4 in found.search.sizes


def test_the_published_recipe_can_be_asked_for(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ReferenceSettings(lambdas=(0.02, 2.0), learning_rate=0.3, steps=10)
    monkeypatch.setattr(methods, "reference_path", partial(reference_path, settings=quick))
    last = dict(list(dictionaries.items())[1:])
    found = find_circuit(model, last, task, faithfulness=0.3, recipe="reference", settings=SETTINGS)
    assert found.path.method == "reference recipe"
    assert found.circuit.provenance["method"] == "reference recipe"
    assert found.circuit.provenance["method_settings"]["lambdas"] == "(0.02, 2.0)"
    assert found.study.train.kept(found.nodes) >= 0.3


def test_dictionaries_of_other_widths_are_refused(model: LanguageModel, task: Task) -> None:
    site = Site.parse("resid_post.1")
    wide = random_dictionary(site)
    wide.config = replace(wide.config, d_in=17)
    with pytest.raises(UsageError, match=r"resid_post\.1"):
        find_circuit(model, {site: wide}, task)


@pytest.mark.parametrize("wanted", [0.5, 0.9])
def test_the_faithfulness_asked_for_is_met_on_names_that_were_not_fitted(named: Study, wanted: float) -> None:
    path = named.paths(["mask"], SEARCH)[0]
    found = choose(named, path, faithfulness=wanted, search=SEARCH)
    assert named.choice.kept(found.nodes) >= wanted
    assert len(named.choice.splice.examples) == 12
    assert found.circuit.provenance["validation"] == 0.3


def test_a_task_may_be_a_file_and_a_site_a_name(tmp_path: Path) -> None:
    program = PROGRAMS["reverse"]
    compiled = compile_program(program.build(), program.vocabulary, max_length=3, sharpness=SMOOTH, name="reverse")
    model, dictionaries = compiled.language_model, labelled_dictionaries(compiled)
    task = program_task(compiled, 3)
    options: dict[str, Any] = {"size": 6, "settings": StudySettings(ablation="zero", errors="drop"), "search": SEARCH}
    expected = find_circuit(model, dictionaries, task, **options)
    named = {str(site): one for site, one in dictionaries.items()}
    found = find_circuit(model, named, str(task.save(tmp_path / "task.json")), **options)
    assert found.circuit.nodes == expected.circuit.nodes
    assert found.circuit.measured == expected.circuit.measured


def test_one_text_held_out_is_refused_before_any_work(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    alone = replace(task, test=task.test.select([0, 0]))
    with pytest.raises(UsageError, match="at least 2 different held-out texts expected, found 1"):
        find_circuit(model, dictionaries, alone, size=15, settings=SETTINGS, search=SEARCH)


def test_a_task_that_nothing_is_called_is_refused(model: LanguageModel, dictionaries: dict[Site, Dictionary]) -> None:
    with pytest.raises(UsageError, match=r"task: expected one of ioi, .* found 'addition'"):
        find_circuit(model, dictionaries, "addition")


class Listener:
    """Hears what work says of itself, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.parts: list[str] = []

    def begin(self, what: str, total: int, part_of: str = "") -> Callable[[int, str], None]:
        self.heard.append(what)
        self.parts.append(part_of)
        return lambda steps, note="": None

    def show_table(self, rows: object) -> None:
        pass

    def announce(self, text: str) -> None:
        self.heard.append(text)


def test_what_it_costs_and_what_the_dictionaries_allow_is_said_before_the_search(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    listener = Listener()
    last = dict(list(dictionaries.items())[1:])
    token = progress._reporter.set(listener)
    try:
        found = find_circuit(model, last, task, faithfulness=1.0, settings=SETTINGS, search=SEARCH)
    finally:
        progress._reporter.reset(token)
    share = found.study.train.faithfulness(found.study.train.dictionaries)
    assert found.study.task_share == pytest.approx(share, rel=1e-6)
    allowed = f"the dictionaries, with all of their latents, keep {share:.0%} of the logit difference of by hand"
    assert re.search(r"12 training prompts, 8 held out, 25 steps of 6; about .* of memory", listener.heard[0])
    place = next(index for index, said in enumerate(listener.heard) if said.startswith(allowed))
    assert place < listener.heard.index("candidates") < listener.heard.index("mask search")
    # Nor does a part say what another within it denies: of prompts that are held apart, and of all.
    assert {part.partition(",")[0] for part in listener.parts if part} <= {
        "for the circuit", "for the size", "without validation prompts"}  # fmt: skip
    assert "for the circuit" in listener.parts
    assert "asked for, which a circuit in them will hardly keep" in _allowed(found.study, share + 0.01)
    assert _allowed(found.study, None).startswith(allowed)


def test_only_the_size_asked_for_is_refined(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, sizes = dict(list(dictionaries.items())[1:]), []
    real = CircuitRefiner._exchanged

    def watched(self: CircuitRefiner, measured: MeasuredCircuit) -> MeasuredCircuit:
        sizes.append(len(measured.circuit))
        return real(self, measured)

    monkeypatch.setattr(CircuitRefiner, "_exchanged", watched)
    monkeypatch.setattr(CircuitRefiner, "improved", lambda *_: pytest.fail("the whole path was refined"))
    found = find_circuit(model, last, task, size=20, settings=SETTINGS, search=SEARCH)
    assert sizes == [20]
    given = found.study.method_inputs(found.search)
    raw = search_path(given.training.splice, given.training.full, given.search)
    assert found.path.sizes == raw.sizes
    assert all(torch.equal(one, other) for one, other in zip(found.path.circuits, raw.circuits, strict=True))
    sizes.clear()
    find_circuit(model, last, task, faithfulness=0.9, settings=SETTINGS, search=SEARCH)
    assert sizes == sorted(sizes, reverse=True), "from the first that may become the smallest, down"
    assert len(sizes) < len(SEARCH.sizes)


def test_dictionaries_that_keep_next_to_nothing_are_refused_with_their_share(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(model, dictionaries, task, SETTINGS)
    monkeypatch.setattr(FullModel, "kept", lambda *_, **__: 0.04)
    expected = r"together keep 4% of by hand in .*: expected at least 5%, .* train them longer or on other text"
    with pytest.raises(GossamerError, match=expected):
        study.require_dictionaries()


def test_how_many_nodes_it_takes_is_found_without_the_prompts_that_it_is_judged_on(
    named: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(splice: Splice, full: FullModel, settings: SearchSettings, *, only: int | None) -> CircuitPath:
        seen.append(len(splice.examples))
        return search_path(splice, full, settings, only=only)

    monkeypatch.setattr("gossamer.circuits.methods.search_path", watched)
    found = find_circuit(
        named.model, named.dictionaries, named.task, faithfulness=0.5, settings=named.settings, search=SEARCH
    )
    assert seen == [28, 40], "first those that are fitted, then all training prompts"
    target = found.circuit.provenance["target"]
    assert target["faithfulness"] == 0.5
    assert len(found.nodes) <= target["size"]
