"""A search for a recipe that breaks a few prompts, at a fixed number of forward passes."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from gossamer.circuits.adversarial.edits import EditSpace, Recipe, Scene, joined
from gossamer.circuits.adversarial.guides import Guide, GuideReading, answer_change, first_order
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder, with_roles_of
from gossamer.tasks.encoding import EncodedRow

# Edits that a guide ranks in one round, of which a round's share is tried.
POOL = 64
# Shares of a guided round: the best by prediction, those that touch what shortcuts read, and the rest at random.
BEST, SHORTCUT = 0.7, 0.2
# Rounds in a row that find nothing new to try, after which a search ends.
_IDLE = 5


@dataclass(frozen=True)
class SearchOptions:
    """How every arm searches.

    Attributes:
        budget: forward passes of one prompt that a search has; a backward pass costs two.
        longest: edits of a recipe, at most.
        round: recipes that are tried at once.
        population: the best recipes, which others are made from.
    """

    budget: int
    longest: int = 3
    round: int = 8
    population: int = 8


class TriedPrompt(NamedTuple):
    """One edited prompt of a search: its tokens and its margin."""

    ids: tuple[int, ...]
    margin: float


class Proposal(NamedTuple):
    """A recipe to try, and the one that it was made from; None: it was drawn anew."""

    recipe: Recipe
    parent: Recipe | None = None


@dataclass(frozen=True)
class Tried:
    """A recipe on the prompts of a search.

    Attributes:
        recipe: its edits.
        broken: how many prompts it breaks; `margin`: their mean margin.
        spent: forward passes by then.
        parent: the recipe that it was made from; None: it was drawn anew.
        prompts: each after the edits, in the order of the search's prompts.
    """

    recipe: Recipe
    broken: int
    margin: float
    spent: int
    parent: Recipe | None = None
    prompts: tuple[TriedPrompt, ...] = ()

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller is better for the search: more prompts broken, then a lower margin."""
        return -self.broken, self.margin


@dataclass
class SearchState:
    """A search under way: the prompts, what was tried, and what may still be spent."""

    space: EditSpace
    encoder: PromptEncoder
    runner: CountedModel
    scenes: Sequence[Scene]
    options: SearchOptions
    rng: random.Random
    unedited: Tried
    tried: list[Tried] = field(default_factory=list)
    start: int = 0
    _seen: set[tuple[tuple[int, ...], ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.start = self.runner.spent
        rows = [row for row in self.encoder.rows(self.scenes) if row is not None]
        self.originals: list[EncodedRow] = rows
        self._seen.add(tuple(row.clean.ids for row in rows))

    @property
    def spent(self) -> int:
        """Forward passes so far."""
        return self.runner.spent - self.start

    @property
    def left(self) -> int:
        """Forward passes that may still be spent."""
        return self.options.budget - self.spent

    def parents(self) -> list[Tried]:
        """The best recipes so far, the unedited prompts among them while there are few."""
        return sorted([self.unedited, *self.tried], key=lambda one: one.rank)[: self.options.population]

    def edited(self, recipe: Recipe) -> list[EncodedRow] | None:
        """The prompts after a recipe; None where the tokenizer refuses one of them."""
        rows = self.encoder.rows([self.space.apply(scene, recipe) for scene in self.scenes])
        kept = [row for row in rows if row is not None]
        return kept if len(kept) == len(rows) else None

    def evaluate(self, proposals: Sequence[Proposal]) -> int:
        """Try what the budget allows of those recipes that give new prompts. Returns how many were tried."""
        chosen: list[tuple[Proposal, list[EncodedRow]]] = []
        for proposal in proposals:
            if len(chosen) >= self.left // len(self.scenes):
                break
            rows = self.edited(proposal.recipe)
            key = None if rows is None else tuple(row.clean.ids for row in rows)
            if rows is not None and key is not None and key not in self._seen:
                self._seen.add(key)
                chosen.append((proposal, rows))
        if not chosen:
            return 0
        size = len(self.scenes)
        before = self.spent
        margins = self.runner.margins(self.encoder.pairs([row for _, rows in chosen for row in rows]))
        for number, ((recipe, parent), rows) in enumerate(chosen):
            own = margins[number * size : (number + 1) * size]
            spent = before + (number + 1) * size
            prompts = tuple(TriedPrompt(row.clean.ids, margin) for row, margin in zip(rows, own.tolist(), strict=True))
            broken, margin = int((own < 0).sum()), own.double().mean().item()
            self.tried.append(Tried(recipe, broken, margin, spent, parent, prompts))
        return len(chosen)


Proposer = Callable[[SearchState], list[Proposal]]


def search(state: SearchState, propose: Proposer, first: Sequence[Recipe]) -> list[Tried]:
    """Try `first`, which all arms share, then what `propose` gives, until the budget is spent or nothing is new."""
    state.evaluate(list(map(Proposal, first)))
    idle = 0
    while state.left >= len(state.scenes) and idle < _IDLE:
        idle = 0 if state.evaluate(propose(state)) else idle + 1
    return state.tried


def at_random(state: SearchState) -> list[Proposal]:
    """Arm A: recipes drawn anew."""
    return [Proposal(state.space.random_recipe(state.rng, state.options.longest)) for _ in range(state.options.round)]


def by_evolution(state: SearchState) -> list[Proposal]:
    """Arm B: the best recipes, each with a random change."""
    parents = state.parents()
    chosen = [state.rng.choice(parents).recipe for _ in range(state.options.round)]
    return [Proposal(state.space.mutated(state.rng, parent, state.options.longest), parent) for parent in chosen]


@dataclass
class Guided:
    """Arms C to F: a guide ranks changes of one of the best recipes.

    Attributes:
        guide: what predicts which edit lowers the metric most.
        shortcuts: roles that the circuit's shortcuts read; edits that touch them get a share of a round.
    """

    guide: Guide
    shortcuts: frozenset[str] = frozenset()
    _expanded: set[Recipe] = field(default_factory=set)
    _seen: dict[tuple[str, str], float] = field(default_factory=dict)

    def __call__(self, state: SearchState) -> list[Proposal]:
        """A round of recipes."""
        size = len(state.scenes)
        # What a reading costs must leave room for trying what it finds.
        if state.left < (self.guide.cost + 1) * size:
            return by_evolution(state)
        parents = state.parents()
        recipe = next((one.recipe for one in parents if one.recipe not in self._expanded), parents[0].recipe)
        self._expanded.add(recipe)
        rows = state.edited(recipe)
        assert rows is not None
        rows = [with_roles_of(row, original) for row, original in zip(rows, state.originals, strict=True)]
        reading = self.guide.read(state.runner, state.encoder.pairs(rows))
        pool = self._pool(state, recipe)
        scores = self._scores(state, reading, rows, pool)
        order = sorted(range(len(pool)), key=lambda number: (scores[number], number))
        best = int(BEST * state.options.round)
        chosen = [pool[number] for number in order[:best]]
        touching = [pool[number] for number in order[best:] if set(pool[number][-1].touches) & self.shortcuts]
        chosen += touching[: int(SHORTCUT * state.options.round)]
        chosen += state.rng.sample(pool, min(len(pool), state.options.round - len(chosen)))
        return [Proposal(one, recipe) for one in chosen]

    def _pool(self, state: SearchState, recipe: Recipe) -> list[Recipe]:
        """Recipes of one edit more, or another one, with the new edit last."""
        edits = state.rng.sample(list(state.space.edits), min(POOL, len(state.space.edits)))
        found = []
        for edit in edits:
            kept = list(recipe)
            if len(kept) >= state.options.longest:
                kept.pop(state.rng.randrange(len(kept)))
            found.append(joined(tuple(kept), edit))
        return [one for one in dict.fromkeys(found) if state.edited(one) is not None]

    def _scores(
        self, state: SearchState, reading: GuideReading, parents: Sequence[EncodedRow], pool: Sequence[Recipe]
    ) -> list[float]:
        """The predicted change of the metric by each recipe, the mean over the prompts."""
        size = len(parents)
        rows = [state.edited(recipe) or [] for recipe in pool]
        lengths = [len(row.clean.ids) for row in parents]
        same = [number for number, own in enumerate(rows) if [len(row.clean.ids) for row in own] == lengths]
        scores = dict.fromkeys(range(len(pool)), 0.0)
        if same:
            of = torch.arange(size).repeat(len(same))
            edited = state.encoder.pairs([row for number in same for row in rows[number]])
            change = first_order(state.runner.model, reading, edited, of).view(-1, size).mean(dim=1)
            scores |= dict(zip(same, change.tolist(), strict=True))
        for number in sorted(set(range(len(pool))) - set(same)):
            scores[number] = self._inserted(state, reading, rows[number], pool[number])
        return [scores[number] for number in range(len(pool))]

    def _inserted(self, state: SearchState, reading: GuideReading, rows: Sequence[EncodedRow], recipe: Recipe) -> float:
        """What an edit that changes the number of tokens does: one prompt stands for all edits of its kind."""
        edit = recipe[-1]
        kind = (edit.kind, edit.where)
        if kind not in self._seen:
            if state.left <= (self.guide.cost + 1) * len(rows):
                return 0.0
            first = torch.zeros(1, dtype=torch.long)
            pairs = state.encoder.pairs([with_roles_of(rows[0], state.originals[0])])
            before = reading.value[:1]
            own = reading._replace(weights=None if reading.weights is None else reading.weights[:1], value=before)
            change = self.guide.value(state.runner, pairs, own) - before
            if reading.weights is not None:
                change = change + answer_change(reading, pairs, first)
            self._seen[kind] = change.item()
        return self._seen[kind]
