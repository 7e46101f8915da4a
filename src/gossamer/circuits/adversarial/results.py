"""What a comparison of searches found, as it is saved and drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gossamer.circuits.adversarial.worst import WorstCase
from gossamer.display import html_table, short_repr
from gossamer.results import Format, Older
from gossamer.statistics import Interval

# What decides whether the circuit added something: arms without it, and the arm with a wrong one.
RIVALS = ("A", "B", "C", "E")
CIRCUIT = "D"
NAMES = {
    "A": "random valid edits",
    "B": "evolution",
    "C": "the model's own gradient",
    "D": "the circuit",
    "E": "a wrong circuit (random active latents)",
    "F": "the circuit, by activation size",
}
# Arms that read the circuit.
READERS = ("D", "F")
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Detector:
    """Nodes of a circuit that act together.

    Attributes:
        nodes: by name.
        effect: of all of them on the metric, the mean over prompts.
        reads: the roles that it reads with their shares, the largest first.
        shortcut: whether all words among them are of one class.
    """

    nodes: tuple[str, ...]
    effect: float
    reads: Mapping[str, float]
    shortcut: bool

    __repr__ = short_repr


@dataclass(frozen=True)
class Acceptance:
    """How many of the held-out prompts that a recipe breaks stand closer looks.

    Attributes:
        broken: with a margin below 0.
        below: with one below -1, as the model runs; `in_float32`: in float32.
        continued: whose greedy continuation of five tokens has a wrong answer before the right one.
        with_dictionaries: on which the model with dictionaries in its stream (errors dropped) fails too.
        stand: which do all of these.
        lowered: in which the value of the circuit's nodes falls, as the failure would have it; no part of `stand`.
    """

    broken: int
    below: int
    in_float32: int
    continued: int
    with_dictionaries: int
    stand: int
    lowered: int


@dataclass(frozen=True)
class RecipeCluster:
    """Recipes of an arm's searches that have the same kinds of edits and move the same detector most.

    Attributes:
        kinds: of their edits, in alphabetical order.
        detector: its number in the results; None: no detector moves.
        recipes: how many different ones; `searches`: how many searches come to one.
    """

    kinds: tuple[str, ...]
    detector: int | None
    recipes: int
    searches: int


@dataclass(frozen=True)
class Arm:
    """One way to search, on the same prompts and at the same budget as the others.

    Attributes:
        letter: A to F, see `NAMES`.
        recipe: the edits that it comes to: of the best recipes of its searches the one that breaks the most of further
            prompts of the search's own words.
        chosen_on: how many of these it breaks.
        broken: held-out prompts that the recipe breaks, with the Wilson interval of their share.
        held_out: of every held-out prompt, whether it does.
        margin: mean margin of the held-out prompts after it.
        share: of the held-out prompts, what the best recipe of each search breaks: the mean over searches.
        solved: share of the searches whose recipe breaks at least half of their prompts, at each budget of the study,
            with Wilson intervals.
        first: restricted mean number of forward passes until then; the budget counts for searches that never do.
        spent: forward passes of all searches together.
        recipes: how many different ones the searches come to.
        accepted: how many of the broken prompts stand closer looks; None in older files, as what follows.
        distance: tokens that the recipe puts in, leaves out or exchanges in held-out prompts, the mean.
        cross_entropy: by how much it makes their text less likely to the bare model, in nats a token, the mean.
        clusters: of the searches' recipes, the one of most searches first.
    """

    letter: str
    recipe: tuple[str, ...]
    chosen_on: int
    broken: Interval
    held_out: tuple[bool, ...]
    margin: float
    share: float
    solved: tuple[Interval, ...]
    first: float
    spent: int
    recipes: int
    accepted: Acceptance | None = None
    distance: float | None = None
    cross_entropy: float | None = None
    clusters: tuple[RecipeCluster, ...] = ()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.letter}, {NAMES[self.letter]}"
        yield f"breaks {sum(self.held_out)} of {len(self.held_out)}"

    @property
    def name(self) -> str:
        """In words."""
        return NAMES[self.letter]


@dataclass(frozen=True)
class Comparison:
    """The circuit's arm beside another, in pairs.

    Attributes:
        letter: the other arm.
        more, fewer: held-out prompts that the circuit's recipe alone breaks, and the other's alone.
        p: of McNemar's exact test of these, two-sided.
        searches_more, searches_fewer, searches_p: the same of searches: which of the two recipes breaks more held-out
            prompts.
    """

    letter: str
    more: int
    fewer: int
    p: float
    searches_more: int
    searches_fewer: int
    searches_p: float

    @property
    def ahead(self) -> bool:
        """Whether the circuit is ahead, by chosen recipes and from search to search, by more than chance."""
        by_prompt = self.more > self.fewer and self.p < SIGNIFICANT
        return by_prompt and self.searches_more > self.searches_fewer and self.searches_p < SIGNIFICANT


@dataclass(frozen=True)
class Repair:
    """A detector put back to what it is on the clean prompt, in prompts that a recipe breaks.

    Attributes:
        detector: its number in the results, or None for all nodes of the circuit.
        share: (patched - edited) / (clean - edited) margin, of the means over prompts.
        random: the same of as many random active latents.
        mended: how many prompts are right again, of how many.
        random_mended: with the random ones.
        moved: how far the recipe moves the detector's value, in logits to first order.
    """

    detector: int | None
    share: float
    random: float
    mended: int
    random_mended: int
    prompts: int
    moved: float


def restored_share(margin: float, clean: float, edited: float) -> float:
    """How far a margin is from that of edited prompts (0) to that of the same prompts before the edits (1)."""
    return (margin - edited) / (clean - edited)


@dataclass(frozen=True)
class PromptRepair:
    """Nodes put back to what they are on the clean prompt, in one prompt that a recipe breaks.

    Attributes:
        detector: its number in the results, or None for all nodes of the circuit.
        before, after: the nodes' value on the clean prompt and on the edited one, in logits to first order.
        patched: the margin of the edited prompt with the nodes put back.
        random: the same with as many random active latents.
    """

    detector: int | None
    before: float
    after: float
    patched: float
    random: float


@dataclass(frozen=True)
class BrokenPrompt:
    """A held-out prompt that the circuit's recipe breaks.

    Attributes:
        clean, edited: tokens.
        answer, said: the right answer, and the wrong one that the model prefers.
        before, after: margins.
        repairs: all nodes of the circuit put back, then each of the detectors that the recipe moves most; empty where
            the edits change the right answer, None in older files.
    """

    clean: tuple[str, ...]
    edited: tuple[str, ...]
    answer: str
    said: str
    before: float
    after: float
    repairs: tuple[PromptRepair, ...] | None = None

    def restored(self, margin: float) -> float:
        """The share of what the edits took from this prompt's margin that a margin has back."""
        return restored_share(margin, self.before, self.after)

    def by_movement(self) -> tuple[PromptRepair, ...]:
        """The repairs as they are shown: of the whole circuit, then of the detectors that move most in this prompt."""
        return tuple(
            sorted(self.repairs or (), key=lambda one: (one.detector is not None, -abs(one.after - one.before)))
        )


@dataclass(frozen=True)
class AdversarialResults:
    """Whether a circuit helps to find prompts that its model fails on.

    Attributes:
        task, model: names.
        circuit: its checksum; `nodes`: how many it has.
        settings: of the study.
        edits: in how many ways a prompt can be changed.
        searches: how many each arm had.
        failed_before: prompts left out because the model fails on them as they are.
        refused: edited prompts left out because the tokenizer joins their words.
        apart: what held-out prompts do not share with those of the search.
        budgets: forward passes at which `Arm.solved` is given.
        detectors, arms, comparisons, repairs, failures: see these.
        setup: forward passes for reading the circuit once, which no search is charged with.
        unseen_words: whether held-out prompts got words that the search never had in place of the recipe's own; older
            files, where they did not, count what one pair of names breaks.
        worst: where the circuit is furthest from the model; None where that was not asked.
        dtype: that the model ran in; "" in older files.
        discovery: forward passes of one prompt that finding the circuit took, about; None where its file does not say
            how it was searched.
    """

    task: str
    model: str
    circuit: str
    nodes: int
    settings: Mapping[str, Any]
    edits: int
    searches: int
    failed_before: int
    refused: int
    apart: str
    budgets: tuple[int, ...]
    detectors: tuple[Detector, ...]
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    repairs: tuple[Repair, ...]
    failures: tuple[BrokenPrompt, ...]
    setup: int
    unseen_words: bool = False
    worst: WorstCase | None = None
    dtype: str = ""
    discovery: float | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.task} in {self.model}"
        yield self.verdict

    def _repr_html_(self) -> str:
        rows = [(one.letter, one.name, sum(one.held_out), " + ".join(one.recipe)) for one in self.arms]
        return html_table(("arm", "searches by", "held-out prompts broken", "recipe"), rows, self.verdict)

    def arm(self, letter: str) -> Arm:
        """One of the arms."""
        return next(one for one in self.arms if one.letter == letter)

    def first_charged(self, letter: str) -> float | None:
        """Mean passes to success of an arm, what its circuit cost being charged once, to its searches in equal parts.

        Reading the circuit and finding it, for the arms that use it; None where the latter is not known.
        """
        arm = self.arm(letter)
        if letter not in READERS:
            return arm.first
        return None if self.discovery is None else arm.first + (self.setup + self.discovery) / self.searches

    @property
    def cost_told(self) -> str:
        """What the circuit's arm takes without what the circuit cost, and with it."""
        own = self.arm(CIRCUIT).first
        said = f"Passes to success, the mean of {self.searches} searches: {own:.0f} with the circuit for nothing"
        if (charged := self.first_charged(CIRCUIT)) is None:
            return f"{said}; what finding it cost is not known, as its file does not say how it was searched."
        return (
            f"{said}, {charged:,.0f} if reading it ({self.setup:,} passes) and finding it (about "
            f"{self.discovery:,.0f}) are charged to them once."
        )

    @property
    def adds(self) -> bool:
        """Whether the circuit is ahead of each of the rivals."""
        return all(one.ahead for one in self.comparisons if one.letter in RIVALS)

    @property
    def verdict(self) -> str:
        """The first line of every report."""
        own, best = self.arm(CIRCUIT), max((self.arm(one) for one in RIVALS), key=lambda one: sum(one.held_out))
        n = len(own.held_out)
        counts = f"{sum(own.held_out)} of {n} held-out prompts"
        if self.adds:
            return (
                f"Knowing the circuit helps: one recipe found with it breaks {counts}, the best of the others "
                f"({best.name}) {sum(best.held_out)}."
            )
        return (
            f"The circuit added nothing: one recipe found with it breaks {counts}, one found by {best.name} "
            f"{sum(best.held_out)}, at the same budget."
        )


# Files of version 1 have no worst case of templates; those of version 2 no bounds of its 99th percentile, no checks of
# failures beyond their margin, and no cost of the circuit; those of version 3 no repairs of single prompts.
FORMAT: Format[AdversarialResults] = Format(
    "gossamer.adversarial",
    4,
    AdversarialResults,
    "adversarial results",
    {f"gossamer.adversarial.{version}": Older(lambda body: body) for version in (1, 2, 3)},
)
