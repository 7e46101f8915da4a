"""Does knowing the circuit find prompts that break the model sooner than not knowing it? Six searches at equal cost."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest  # type: ignore[import-untyped]

from gossamer.circuits.ablation import Ablation, AblationKind
from gossamer.circuits.adversarial.detectors import find_detectors, wrong_circuit
from gossamer.circuits.adversarial.edits import EditSpace, Recipe, Scene, edit_space
from gossamer.circuits.adversarial.guides import CircuitGuide, ModelGuide
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder
from gossamer.circuits.adversarial.repair import failures, repairs
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
from gossamer.circuits.adversarial.worst import WorstCase, WorstCaseSettings, worst_case
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import circuit_nodes
from gossamer.circuits.nodes import Nodes
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping, by_site
from gossamer.progress import begin
from gossamer.statistics import Interval, wilson
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tasks.task import Task

# Recipes that all arms try first, and prompts on which the circuit is read.
_FIRST, _READ = 2, 32
_SMALLEST_BUDGET = 16


@dataclass(frozen=True)
class AdversarialSettings:
    """How arms are compared.

    Attributes:
        budget: forward passes of one prompt of each search; a backward pass costs two.
        searches: of each arm, each on prompts of its own.
        prompts: of a search; it succeeds when its recipe breaks at least half of them.
        edits: in a recipe, at most.
        choice: further prompts of the search's words, on which an arm chooses among the recipes of its searches.
        held_out: prompts of other words and templates, on which the chosen recipe is measured.
        seed: of everything random.
    """

    budget: int = 128
    searches: int = 20
    prompts: int = 4
    edits: int = 3
    choice: int = 24
    held_out: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"budget": 2 * self.prompts, "searches": 1, "prompts": 1, "edits": 1, "choice": 1, "held_out": 1}
        for name, smallest in least.items():
            if (found := getattr(self, name)) < smallest:
                raise UsageError(f"{name}: at least {smallest} expected, found {found}")

    @property
    def budgets(self) -> tuple[int, ...]:
        """Powers of two up to the budget, and the budget."""
        powers = [2**power for power in range(_SMALLEST_BUDGET.bit_length() - 1, self.budget.bit_length())]
        return tuple(sorted({*(one for one in powers if one < self.budget), self.budget}))


class _Prompts(NamedTuple):
    """Scenes that the model does, by what they are for, and how many it does not."""

    groups: list[list[Scene]]
    choice: list[Scene]
    held_out: list[Scene]
    failed: int


@dataclass
class _Bench:
    """What all arms share; `_broken` keeps what recipes do to held-out prompts."""

    space: EditSpace
    encoder: PromptEncoder
    model: LanguageModel
    settings: AdversarialSettings
    prompts: _Prompts
    _broken: dict[tuple[Recipe, bool], tuple[list[bool], float]] = field(default_factory=dict)

    def broken(self, recipe: Recipe, *, held_out: bool) -> tuple[list[bool], float]:
        """Which held-out prompts (or those that recipes are chosen on) a recipe breaks, and their mean margin.

        Into held-out prompts it puts words that the search never had. A prompt that the tokenizer refuses after the
        edits is not broken.
        """
        if (recipe, held_out) not in self._broken:
            scenes = self.prompts.held_out if held_out else self.prompts.choice
            apply = self.space.apply_unseen if held_out else self.space.apply
            rows = self.encoder.rows([apply(scene, recipe) for scene in scenes])
            kept = [row for row in rows if row is not None]
            found = iter(CountedModel(self.model).margins(self.encoder.pairs(kept)).tolist() if kept else ())
            margins = [None if row is None else next(found) for row in rows]
            known = [margin for margin in margins if margin is not None]
            mean = sum(known) / len(known) if known else float("nan")
            self._broken[recipe, held_out] = [margin is not None and margin < 0 for margin in margins], mean
        return self._broken[recipe, held_out]


def adversarial_study(
    circuit: Circuit,
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    *,
    settings: AdversarialSettings | None = None,
    worst: WorstCaseSettings | None = None,
) -> AdversarialResults:
    """Search for recipes of edits that make the model fail, with the circuit and without, and compare what they break.

    Args:
        circuit: of a task that has edits.
        model: the circuit's own.
        dictionaries: those it was found with.
        settings: budget and numbers of prompts.
        worst: how the worst case of the circuit is sought too; None: it is not.

    Raises:
        UsageError: a circuit of another model, of no nodes, or of a task without edits; too few words.
        GossamerError: the model does too few of the prompts as they are.
    """
    settings, found = settings or AdversarialSettings(), by_site(dictionaries)
    task = _task(circuit, model)
    space = edit_space(task.name, task.provenance, (*task.train.prompts, *task.test.prompts), settings.seed)
    encoder = PromptEncoder(PromptTokenizer(model.tokenizer, task.bos), task.role_names)
    if missing := [site for site in circuit.sites if site not in found]:
        raise UsageError(
            f"dictionaries: one at {missing[0]} expected, as the circuit has, found {', '.join(map(str, found))}"
        )
    own_sites = DictionarySet([found[site] for site in circuit.sites])
    nodes = circuit_nodes(circuit, own_sites, task)
    # An error has no input that an edit of the prompt could be steered by.
    whole, nodes = nodes, nodes.select(~nodes.is_error)
    prompts = _prompts(space, encoder, model, settings)
    bench = _Bench(space, encoder, model, settings, prompts)
    read = _read_prompts(bench)
    guide = CircuitGuide(nodes, found)
    detectors = find_detectors(model, guide, read, space.family.CLASSES)
    arms, best = _arms(bench, guide, detectors, read)
    own = best[CIRCUIT]
    return AdversarialResults(
        task=task.name,
        model=model.title,
        circuit=circuit.sha256,
        nodes=len(nodes),
        settings=asdict(settings),
        edits=len(space.edits),
        searches=settings.searches,
        failed_before=prompts.failed,
        refused=encoder.refused,
        apart=_apart(space),
        budgets=settings.budgets,
        detectors=detectors,
        arms=tuple(arms.values()),
        comparisons=tuple(_compared(bench, arms, best, letter) for letter in NAMES if letter != CIRCUIT),
        repairs=repairs(bench.space, encoder, model, guide, detectors, prompts.held_out, own[0], settings.seed),
        failures=failures(bench.space, encoder, model, prompts.held_out, own[0]),
        setup=guide.cost * len(read),
        unseen_words=True,
        worst=None if worst is None else _worst(circuit, model, own_sites, task, whole, space, worst),
    )


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


def _prompts(space: EditSpace, encoder: PromptEncoder, model: LanguageModel, settings: AdversarialSettings) -> _Prompts:
    """Scenes that the model does: for each search, for the choice of recipes, and apart from them."""
    wanted = settings.searches * settings.prompts + settings.choice
    search, failed = _done(space, encoder, model, wanted, settings.seed, held_out=False)
    apart, more = _done(space, encoder, model, settings.held_out, settings.seed, held_out=True)
    size = settings.prompts
    groups = [search[start : start + size] for start in range(0, settings.searches * size, size)]
    return _Prompts(groups, search[settings.searches * size :], apart, failed + more)


def _done(
    space: EditSpace, encoder: PromptEncoder, model: LanguageModel, wanted: int, seed: int, *, held_out: bool
) -> tuple[list[Scene], int]:
    """`wanted` scenes of one side that the model does as they are, and how many it failed on."""
    found: list[Scene] = []
    failed, drawn = 0, wanted
    while len(found) < wanted:
        scenes = space.scenes(drawn, seed, held_out=held_out)
        rows = encoder.rows(scenes)
        known = [(scene, row) for scene, row in zip(scenes, rows, strict=True) if row is not None]
        margins = CountedModel(model).margins(encoder.pairs([row for _, row in known]))
        # A prompt that differs by its counterfactual alone comes up twice.
        found = list(dict.fromkeys(scene for (scene, _), margin in zip(known, margins, strict=True) if margin > 0))
        failed = int((margins <= 0).sum())
        if len(found) < wanted and drawn >= 4 * wanted:
            raise GossamerError(
                f"{space.task}: {wanted} prompts that {model.title} does expected, found {len(found)} of {drawn}; ask "
                "for fewer searches or held-out prompts, or study a task that the model can do"
            )
        drawn *= 2
    return found[:wanted], failed


def _read_prompts(bench: _Bench) -> PromptPairs:
    scenes = [scene for group in bench.prompts.groups for scene in group][:_READ]
    return bench.encoder.pairs([row for row in bench.encoder.rows(scenes) if row is not None])


def _arms(
    bench: _Bench, guide: CircuitGuide, detectors: Sequence[Detector], read: PromptPairs
) -> tuple[dict[str, Arm], dict[str, list[Recipe]]]:
    """Every arm, and the recipe that each comes to, followed by that of each of its searches."""
    shortcuts = frozenset(role for one in detectors if one.shortcut for role in one.reads)
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
            advance(1, NAMES[letter])
        arms[letter], best[letter] = _arm(bench, letter, runs)
    return arms, best


def _search(bench: _Bench, letter: str, number: int, group: Sequence[Scene], propose: Proposer) -> list[Tried]:
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


def _arm(bench: _Bench, letter: str, runs: Sequence[Sequence[Tried]]) -> tuple[Arm, list[Recipe]]:
    """What an arm's searches come to, and the recipe of the arm followed by those of the searches."""
    settings, half = bench.settings, bench.settings.prompts / 2
    own = [min(run, key=lambda one: one.rank).recipe if run else () for run in runs]

    def chosen(recipe: Recipe) -> tuple[int, float]:
        broken, margin = bench.broken(recipe, held_out=False)
        return -sum(broken), margin

    recipe = min(dict.fromkeys(own), key=chosen)
    solved = [next((one.spent for one in run if one.broken >= half), None) for run in runs]
    broken, margin = bench.broken(recipe, held_out=True)
    counts = [sum(bench.broken(one, held_out=True)[0]) for one in own]
    arm = Arm(
        letter,
        tuple(map(str, recipe)),
        -chosen(recipe)[0],
        _share(sum(broken), len(broken)),
        tuple(broken),
        margin,
        float(np.mean(counts)) / len(broken),
        tuple(_share(sum(one is not None and one <= b for one in solved), len(runs)) for b in settings.budgets),
        float(np.mean([settings.budget if one is None else one for one in solved])),
        sum(run[-1].spent for run in runs if run),
        len(set(own)),
    )
    return arm, [recipe, *own]


def _share(count: int, of: int) -> Interval:
    low, high = wilson(count, of)
    return Interval(count / of, float(low), float(high))


def _compared(bench: _Bench, arms: Mapping[str, Arm], best: Mapping[str, list[Recipe]], letter: str) -> Comparison:
    """The circuit's arm beside another, prompt by prompt and search by search."""
    more, fewer, p = mcnemar(arms[CIRCUIT].held_out, arms[letter].held_out)
    counts = [[sum(bench.broken(recipe, held_out=True)[0]) for recipe in best[one][1:]] for one in (CIRCUIT, letter)]
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
