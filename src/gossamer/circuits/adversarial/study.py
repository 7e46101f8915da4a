"""Does knowing the circuit find prompts that break the model sooner than not knowing it? Six searches at equal cost."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest  # type: ignore[import-untyped]

from gossamer.circuits.ablation import Ablation, AblationKind
from gossamer.circuits.adversarial.acceptance import float32_model
from gossamer.circuits.adversarial.bench import Bench, study_prompts
from gossamer.circuits.adversarial.charge import discovery_passes
from gossamer.circuits.adversarial.detectors import find_detectors, wrong_circuit
from gossamer.circuits.adversarial.edits import EditSpace, Recipe, Scene, edit_space
from gossamer.circuits.adversarial.guides import CircuitGuide, ModelGuide
from gossamer.circuits.adversarial.prompt_record import ArmSuccess, PromptRecord
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder
from gossamer.circuits.adversarial.repair import failures, repaired_prompts
from gossamer.circuits.adversarial.results import (
    CIRCUIT,
    NAMES,
    AdversarialResults,
    Arm,
    Comparison,
    Detector,
)
from gossamer.circuits.adversarial.search import (
    Guided,
    Proposer,
    SearchOptions,
    SearchState,
    Tried,
    at_random,
    by_evolution,
    search,
)
from gossamer.circuits.adversarial.settings import AdversarialSettings
from gossamer.circuits.adversarial.successes import Success, accepted, recipe_clusters, successes
from gossamer.circuits.adversarial.worst import WorstCase, WorstCaseSettings, worst_case
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import circuit_nodes
from gossamer.circuits.nodes import Nodes
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.progress import begin
from gossamer.statistics import Interval, wilson
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tasks.task import Task

# Recipes that all arms try first.
_FIRST = 2


@dataclass
class _Reading:
    """The circuit as it is read: its nodes with their detectors, and the prompts that they were read on."""

    guide: CircuitGuide
    detectors: Sequence[Detector]
    read: PromptPairs


def adversarial_study(
    circuit: Circuit,
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    *,
    settings: AdversarialSettings | None = None,
    worst: WorstCaseSettings | None = None,
    prompts_file: str | Path | None = None,
) -> AdversarialResults:
    """Search for recipes of edits that make the model fail, with the circuit and without, and compare what they break.

    Args:
        circuit: of a task that has edits.
        model: the circuit's own.
        dictionaries: those it was found with.
        settings: budget and numbers of prompts.
        worst: how the worst case of the circuit is sought too; None: it is not.
        prompts_file: gets every prompt that was tried, and in full those that the arms' recipes break
            (:class:`gossamer.circuits.adversarial.prompt_record.PromptRecord`); None: they are not kept.

    Raises:
        UsageError: a circuit of another model, of no nodes, or of a task without edits; too few words.
        GossamerError: the model does too few of the prompts as they are.
    """
    settings, found = settings or AdversarialSettings(), by_site(dictionaries)
    task = _task(circuit, model)
    own_sites = _circuit_dictionaries(circuit, found)
    nodes = circuit_nodes(circuit, own_sites, task)
    bench = _bench(task, model, own_sites, settings)
    reading = _read(bench, nodes, found)
    record = PromptRecord(_about(circuit, model, task, settings))
    arms, best = _arms(bench, reading, record)
    arms = _looked_at(bench, reading, arms, best, record)
    if prompts_file is not None:
        record.save(prompts_file)
    broken = bench.broken_rows(best[CIRCUIT][0])
    repaired = repaired_prompts(bench, reading.guide, reading.detectors, broken)
    return AdversarialResults(
        task=task.name,
        model=model.title,
        circuit=circuit.sha256,
        nodes=len(reading.guide.nodes),
        settings=asdict(settings),
        edits=len(bench.space.edits),
        searches=settings.searches,
        failed_before=bench.prompts.failed,
        refused=bench.encoder.refused,
        apart=_apart(bench.space),
        budgets=settings.budgets,
        detectors=tuple(reading.detectors),
        arms=tuple(arms.values()),
        comparisons=tuple(_compared(bench, arms, best, letter) for letter in NAMES if letter != CIRCUIT),
        repairs=repaired.means(),
        failures=failures(bench, broken, repaired),
        setup=reading.guide.cost * len(reading.read),
        unseen_words=True,
        worst=None if worst is None else _worst(circuit, model, own_sites, task, nodes, bench.space, worst),
        dtype=str(model.dtype).removeprefix("torch."),
        discovery=discovery_passes(circuit, model, task),
    )


def _circuit_dictionaries(circuit: Circuit, dictionaries: Mapping[Site, Dictionary]) -> DictionarySet:
    """Those at the circuit's sites, once it is sure that each has one."""
    if missing := [site for site in circuit.sites if site not in dictionaries]:
        raise UsageError(
            f"dictionaries: one at {missing[0]} expected, as the circuit has, found {', '.join(map(str, dictionaries))}"
        )
    return DictionarySet([dictionaries[site] for site in circuit.sites])


def _bench(task: Task, model: LanguageModel, dictionaries: DictionarySet, settings: AdversarialSettings) -> Bench:
    """The edits of the task, and the prompts made for them that the model does."""
    space = edit_space(task.name, task.provenance, (*task.train.prompts, *task.test.prompts), settings.seed)
    encoder = PromptEncoder(PromptTokenizer(model.tokenizer, task.bos), task.role_names)
    return Bench(space, encoder, model, dictionaries, settings, study_prompts(space, encoder, model, settings))


def _read(bench: Bench, nodes: Nodes, dictionaries: Mapping[Site, Dictionary]) -> _Reading:
    """The circuit, without its error nodes, read on prompts that the model does."""
    # An error has no input that an edit of the prompt could be steered by.
    guide, read = CircuitGuide(nodes.select(~nodes.is_error), dictionaries), bench.read_prompts()
    return _Reading(guide, find_detectors(bench.model, guide, read, bench.space.family.CLASSES), read)


def _about(circuit: Circuit, model: LanguageModel, task: Task, settings: AdversarialSettings) -> dict[str, Any]:
    """What a file of prompts begins with."""
    known = {"task": task.name, "model": model.title, "weights": weights_sha256(model.hf), "circuit": circuit.sha256}
    return {**known, "settings": asdict(settings)}


def _worst(
    circuit: Circuit,
    model: LanguageModel,
    dictionaries: DictionarySet,
    task: Task,
    nodes: Nodes,
    space: EditSpace,
    settings: WorstCaseSettings,
) -> WorstCase:
    """The circuit's worst case, with its own ablation; to the mean where that resamples, which edits cannot."""
    asked = {name: circuit.provenance[name] for name in ("ablation", "errors") if name in circuit.provenance}
    kind: AblationKind = "zero" if asked.get("ablation") == "zero" else "mean"
    ablation = Ablation.measure(model, dictionaries, task, kind=kind, errors=asked.get("errors", "mean"))
    return worst_case(model, dictionaries, task, nodes, space, ablation, settings)


def _task(circuit: Circuit, model: LanguageModel) -> Task:
    """The circuit's task, once it is sure that the circuit can be read in this model."""
    known = circuit.inputs
    if known is None or known.task is None:
        raise UsageError(f"circuit of {circuit.task}: one that records its task expected, found an older file; redo it")
    if known.model.sha256 not in (None, weights_sha256(model.hf)):
        raise UsageError(
            f"circuit of {circuit.task}: its own model expected ({circuit.model}), found {model.title} with other "
            "weights; give the model that the circuit was found in"
        )
    if (masks := circuit.provenance.get("masks", "role")) != "role":
        raise UsageError(f"circuit of {circuit.task}: one with masks by role expected, found {masks}; redo it")
    if not circuit.features:
        raise UsageError(f"circuit of {circuit.task}: nodes to search with expected, found none; use a larger circuit")
    return Task.from_body(known.task, model.tokenizer)


def _arms(bench: Bench, reading: _Reading, record: PromptRecord) -> tuple[dict[str, Arm], dict[str, list[Recipe]]]:
    """Every arm, and the recipe that each comes to, followed by that of each of its searches."""
    guide, read = reading.guide, reading.read
    shortcuts = frozenset(role for one in reading.detectors if one.shortcut for role in one.reads)
    generator = torch.Generator().manual_seed(bench.settings.seed)
    wrong = wrong_circuit(bench.model, guide.nodes, guide.dictionaries, read, generator)
    random_roles = frozenset(
        role
        for one in find_detectors(
            bench.model, CircuitGuide(wrong, guide.dictionaries), read, bench.space.family.CLASSES
        )
        if one.shortcut
        for role in one.reads
    )
    proposers: dict[str, Callable[[], Proposer]] = {
        "A": lambda: at_random,
        "B": lambda: by_evolution,
        "C": lambda: Guided(ModelGuide()),
        "D": lambda: Guided(guide, shortcuts),
        "E": lambda: Guided(CircuitGuide(wrong, guide.dictionaries), random_roles),
        "F": lambda: Guided(CircuitGuide(guide.nodes, guide.dictionaries, by_size=True), shortcuts),
    }
    advance = begin("searches", len(proposers) * len(bench.prompts.groups))
    arms: dict[str, Arm] = {}
    best: dict[str, list[Recipe]] = {}
    for letter, make in proposers.items():
        runs = []
        for number, group in enumerate(bench.prompts.groups):
            runs.append(_search(bench, letter, number, group, make()))
            record.add_search(letter, number, runs[-1])
            advance(1, NAMES[letter])
        arms[letter], best[letter] = _arm(bench, letter, runs)
    return arms, best


def _search(bench: Bench, letter: str, number: int, group: Sequence[Scene], propose: Proposer) -> list[Tried]:
    """What one search of one arm tried; all arms begin with the same recipes."""
    settings, seed = bench.settings, bench.settings.seed
    shared = random.Random(f"{seed} {number}")
    first = [bench.space.random_recipe(shared, settings.edits) for _ in range(_FIRST)]
    options = SearchOptions(settings.budget, settings.edits)
    # Known since the prompts were looked through: every arm has it for nothing.
    rows = [row for row in bench.encoder.rows(group) if row is not None]
    margin = CountedModel(bench.model).margins(bench.encoder.pairs(rows)).double().mean().item()
    unedited = Tried((), 0, margin, 0)
    rng = random.Random(f"{seed} {number} {letter}")
    state = SearchState(bench.space, bench.encoder, CountedModel(bench.model), group, options, rng, unedited)
    found = search(state, propose, first)
    assert state.spent <= settings.budget
    return found


def _arm(bench: Bench, letter: str, runs: Sequence[Sequence[Tried]]) -> tuple[Arm, list[Recipe]]:
    """What an arm's searches come to, and the recipe of the arm followed by those of the searches."""
    settings, half = bench.settings, bench.settings.prompts / 2
    own = [min(run, key=lambda one: one.rank).recipe if run else () for run in runs]

    def chosen(recipe: Recipe) -> tuple[int, float]:
        effect = bench.effect(recipe, held_out=False)
        return -sum(effect.broken), effect.margin

    recipe = min(dict.fromkeys(own), key=chosen)
    solved = [next((one.spent for one in run if one.broken >= half), None) for run in runs]
    effect = bench.effect(recipe, held_out=True)
    broken, counts = effect.broken, list(map(bench.count, own))
    arm = Arm(
        letter,
        tuple(map(str, recipe)),
        -chosen(recipe)[0],
        _share(sum(broken), len(broken)),
        broken,
        effect.margin,
        float(np.mean(counts)) / len(broken),
        tuple(_share(sum(one is not None and one <= b for one in solved), len(runs)) for b in settings.budgets),
        float(np.mean([settings.budget if one is None else one for one in solved])),
        sum(run[-1].spent for run in runs if run),
        len(set(own)),
        distance=effect.distance,
        cross_entropy=effect.cross_entropy,
    )
    return arm, [recipe, *own]


def _looked_at(
    bench: Bench,
    reading: _Reading,
    arms: Mapping[str, Arm],
    best: Mapping[str, Sequence[Recipe]],
    record: PromptRecord,
) -> dict[str, Arm]:
    """The arms with what becomes of their failures at a closer look, and with their recipes in clusters."""
    full, guide, detectors = float32_model(bench.model), reading.guide, reading.detectors
    clusters = recipe_clusters(bench, guide, detectors, {letter: own[1:] for letter, own in best.items()})
    known: dict[Recipe, tuple[Success, ...]] = {}
    found = {}
    for letter, arm in arms.items():
        recipe = best[letter][0]
        if recipe not in known:
            known[recipe] = successes(bench, full, guide, detectors, recipe)
        record.successes += [ArmSuccess(letter, one) for one in known[recipe]]
        found[letter] = replace(arm, accepted=accepted(known[recipe]), clusters=clusters[letter])
    return found


def _share(count: int, of: int) -> Interval:
    low, high = wilson(count, of)
    return Interval(count / of, float(low), float(high))


def _compared(bench: Bench, arms: Mapping[str, Arm], best: Mapping[str, list[Recipe]], letter: str) -> Comparison:
    """The circuit's arm beside another, prompt by prompt and search by search."""
    more, fewer, p = mcnemar(arms[CIRCUIT].held_out, arms[letter].held_out)
    counts = [list(map(bench.count, best[one][1:])) for one in (CIRCUIT, letter)]
    pairs = list(zip(*counts, strict=True))
    ahead, behind, searches_p = mcnemar([a > b for a, b in pairs], [b > a for a, b in pairs])
    return Comparison(letter, more, fewer, p, ahead, behind, searches_p)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
    """How often only the first of a pair is true, how often only the second, and McNemar's exact two-sided p."""
    pairs = list(zip(first, second, strict=True))
    one, other = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return one, other, 1.0 if one + other == 0 else float(binomtest(one, one + other).pvalue)


def _apart(space: EditSpace) -> str:
    """What held-out prompts do not share with those of the search."""
    search, apart = space.words
    divided = [key for key in search if key != "length" and not set(search[key]) & set(apart[key])]
    return " and ".join([", ".join(divided[:-1]), divided[-1]] if len(divided) > 1 else divided) or "texts"
