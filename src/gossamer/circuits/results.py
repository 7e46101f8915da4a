"""What an evaluation says, as plain numbers: what a report draws and a program reads, nothing of how it came to be."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.circuits.circuit_numbers import CircuitNumbers
from gossamer.circuits.controls import Controls
from gossamer.circuits.edge import Edge, EdgeTest, QKEdge
from gossamer.circuits.families.results import Families
from gossamer.circuits.group import GroupTest, NodeGroup
from gossamer.circuits.overlap import CORE, Overlap
from gossamer.circuits.shortfalls import ExplainedInputs, PromptTail, RestoredError
from gossamer.display import cut, html_table, listed, plural, short_repr
from gossamer.features.feature import Node
from gossamer.features.feature_card import FeatureCard
from gossamer.model.site import Site
from gossamer.results import Format, Older
from gossamer.statistics import Interval

# What cards are of where nothing else is said.
HELD_OUT = "the held-out prompts"


@dataclass(frozen=True)
class TaskMetrics:
    """How one network (full, with dictionaries, circuit, ...) does the task on held-out prompts.

    Attributes:
        name: what the network is.
        metric: mean of what the task measures (`Findings.metric` names it).
        faithfulness: a difference over the full model's, with nothing subtracted; of a distance from the full model,
            1 minus its share of the empty circuit's distance (see :mod:`gossamer.tasks.metric`).
        faithfulness_to_dictionaries: the same with model + dictionaries without ablation in the full model's place.
        accuracy: share of prompts that it gets right (see :class:`gossamer.circuits.prompt_metrics.PromptMetrics`).
        top1: share of prompts where a right answer's logit exceeds every other token's.
        kl: mean KL(full model || this network) over the vocabulary at the answer position, in nats.
        prompt_error: mean over prompts of |metric - the full model's|, in units of faithfulness.
        answer_kl: mean KL as above between the prompt's own answers alone, right and wrong.
    """

    name: str
    metric: Interval
    faithfulness: Interval
    faithfulness_to_dictionaries: Interval
    accuracy: float
    top1: float
    kl: float
    prompt_error: Interval
    answer_kl: float = math.nan

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name
        yield f"metric {self.metric.value:.3g}"
        share = self.faithfulness
        yield f"faithfulness {share.value:.3g} ({share.low:.3g} to {share.high:.3g})"
        yield f"accuracy {self.accuracy:.3g}"
        yield f"KL {self.kl:.3g}"

    @property
    def measured(self) -> dict[str, float]:
        """The numbers that a circuit's file holds."""
        return {
            "faithfulness": self.faithfulness.value,
            "faithfulness_to_dictionaries": self.faithfulness_to_dictionaries.value,
            "accuracy": self.accuracy,
            "kl": self.kl,
        }

    def of_size(self, size: int) -> CircuitNumbers:
        """What stands beside other circuits' numbers."""
        return CircuitNumbers(size, self.faithfulness, self.prompt_error, self.accuracy, self.kl)

    @property
    def exceeds_dictionaries(self) -> bool:
        """Whether it is more faithful than all dictionaries without ablation, of whose latents a circuit is a part.

        What such a circuit has beyond them comes from ablation, not from what its nodes say.
        """
        share, of_dictionaries = self.faithfulness.value, self.faithfulness_to_dictionaries.value
        return of_dictionaries != 0 and share > share / of_dictionaries


# The name under which a circuit's file holds what its dictionaries keep of the task, with all of their latents.
DICTIONARIES = "dictionaries_faithfulness"


def measured_of(budget: Sequence[TaskMetrics]) -> dict[str, float]:
    """The numbers that a circuit's file holds, of rows that end in all dictionaries, the circuit and the empty one."""
    return {**budget[-2].measured, DICTIONARIES: budget[-3].faithfulness.value}


# Marks a circuit whose faithfulness exceeds the dictionaries' own.
BEYOND = "†"


def behaviours_html(metrics: Sequence[TaskMetrics], caption: str) -> str:
    """Networks that do a task, one a row."""
    head = ("network", "metric", "faithfulness", "95 % interval", "prompt error", "accuracy", "KL")
    rows = [
        (
            one.name,
            one.metric.value,
            f"{one.faithfulness.value:.4g}{BEYOND}"
            if one.exceeds_dictionaries and one in metrics[-2:]
            else one.faithfulness.value,
            f"{one.faithfulness.low:.3g} to {one.faithfulness.high:.3g}",
            one.prompt_error.value,
            one.accuracy,
            one.kl,
        )
        for one in metrics
    ]
    return html_table(head, rows, caption)


@dataclass(frozen=True)
class PromptCase:
    """Full model and circuit on the held-out prompts of one kind; references and intervals are of these prompts alone.

    Attributes:
        name: the prompts' `case`; "" for prompts without one.
        prompts: how many they are.
    """

    name: str
    prompts: int
    full: TaskMetrics
    circuit: TaskMetrics

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.name)
        yield plural(self.prompts, "prompt")
        yield f"faithfulness {self.circuit.faithfulness.value:.3g}"


@dataclass(frozen=True)
class CurvePoint:
    """One circuit of a size-faithfulness curve. `size` counts nodes, `unique_latents` their distinct features."""

    size: int
    unique_latents: int
    task_metrics: TaskMetrics

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.size, "node")
        yield f"faithfulness {self.task_metrics.faithfulness.value:.3g}"


@dataclass(frozen=True)
class Curve:
    """Circuits of one method from large to small, the time all of them took together, and the areas of the peers.

    Attributes:
        method: name of the method.
        points: by falling size.
        seconds: wall-clock time to all scores and circuits of the curve (evaluation not counted).
        cpr: area under MIB's faithfulness over the share of the study's candidates that is kept (larger is better). MIB
            subtracts the empty circuit, (m(C) - m(empty)) / (m(full) - m(empty)); `TaskMetrics.faithfulness` does not.
        cmd: area of |1 - MIB's faithfulness| over the same axis (smaller is better).
    """

    method: str
    points: tuple[CurvePoint, ...]
    seconds: float
    cpr: float
    cmd: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.method
        if self.points:
            yield f"{plural(len(self.points), 'circuit')} of {self.points[0].size} to {self.points[-1].size} nodes"
        yield f"CPR {self.cpr:.3g}, CMD {self.cmd:.3g}"
        yield f"{self.seconds:.3g} s"


@dataclass(frozen=True)
class SizeComparison:
    """Our circuit beside the best that one family of baselines has at a size: which is closer to the full model.

    Closeness is 1 - |1 - faithfulness|. The family's best is chosen on the very prompts that are compared on: it is an
    upper bound on what a family would be chosen to do.

    Attributes:
        size: nodes that the baseline has.
        nodes: nodes of ours: the same, or the largest circuit that is no larger.
        family: the score that the baseline ranks by, whatever its thresholds and sign; `method` is the best of them.
        ours, theirs: closeness.
        difference: ours less theirs, with the interval over prompts, paired.
    """

    size: int
    nodes: int
    family: str
    method: str
    ours: float
    theirs: float
    difference: Interval

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(self.size, 'node')}, {self.method}"
        yield f"difference {self.difference}"

    @property
    def behind(self) -> bool:
        """Whether ours is further from the full model, by point value (of three digits: rounding is no difference)."""
        return self.difference.value < -0.0005

    @property
    def significantly_behind(self) -> bool:
        """Whether it is so beyond the interval."""
        return self.difference.high < 0


def best_baseline(comparisons: Sequence[SizeComparison]) -> list[SizeComparison]:
    """At each size only the baseline that does best there, by falling size."""
    best: dict[int, SizeComparison] = {}
    for one in comparisons:
        if one.size not in best or one.theirs > best[one.size].theirs:
            best[one.size] = one
    return [best[size] for size in sorted(best, reverse=True)]


@dataclass(frozen=True)
class KnockoutPoint:
    """F(C without K) against F(M without K) for one subset K of the circuit's own nodes."""

    kind: str
    size: int
    circuit: float
    model: float


@dataclass(frozen=True)
class Completeness:
    """`knocked_out`: the dictionaries' network with the circuit ablated (0 is complete); `points`: subsets K."""

    knocked_out: TaskMetrics
    points: tuple[KnockoutPoint, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"knocked out: faithfulness {self.knocked_out.faithfulness.value:.3g}"
        yield plural(len(self.points), "subset")


@dataclass(frozen=True)
class NodeCard:
    """What is known of one node of the circuit: its feature's card, and what only a circuit knows of it.

    Attributes:
        card: of the feature, on the text that `Findings.cards_of` says.
        role: where it counts.
        effect: faithfulness lost when this node alone is removed from the circuit (minimality).
        activation: mean on clean prompts at the role; `ablated` is the mean it is moved to.
        direct: what the latent adds to the metric by itself, to first order: (activation - ablated) times the decoder
            row times the gradient of the metric by the final stream, mean over prompts; NaN at sites that write to no
            stream.
        generic: names of unrelated tasks whose circuits hold the same latent.
        recurrence: share of the searches on bootstrap samples of the prompts whose circuit of as many nodes holds it;
            NaN where there were none.
    """

    card: FeatureCard
    role: str
    effect: float
    activation: float
    ablated: float
    direct: float
    generic: tuple[str, ...] = ()
    recurrence: float = math.nan

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.node)
        yield f"effect {self.effect:.3g}"
        yield f"activation {self.activation:.3g}, ablated to {self.ablated:.3g}"
        if self.card.promotes:
            yield f"promotes {' '.join(word.strip() for word, _ in self.card.promotes[:3])}"

    @property
    def node(self) -> Node:
        """Which node it is."""
        return Node(self.card.feature, self.role)

    @property
    def in_core(self) -> bool:
        """Whether most searches on samples of the prompts find it again; False where there were none."""
        return self.recurrence >= CORE

    @property
    def site(self) -> Site:
        """Where the dictionary reads."""
        return self.card.feature.site

    @property
    def latent(self) -> int:
        """Number of the latent; ERROR for an error node."""
        return self.card.feature.latent

    @property
    def name(self) -> str:
        """What it is called at its site: the latent's number, or `error`."""
        return self.card.feature.name


@dataclass(frozen=True)
class PromptView:
    """One prompt of the task as the circuit sees it: tokens with the role of each (None is passed through)."""

    tokens: tuple[str, ...]
    roles: tuple[str | None, ...]
    counterfactual: tuple[str, ...]
    answer: str
    incorrect: str

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield cut(repr("".join(self.tokens)), 100)
        yield f"{self.answer!r} or {self.incorrect!r}"


@dataclass(frozen=True)
class Findings:
    """Everything the main job found, ready to be drawn or written as JSON.

    Attributes:
        task, model: names.
        sites, roles: axes of the circuit's drawing, in order.
        budget: full model, each dictionary alone, all dictionaries, circuit, empty circuit.
        curves: our mask first, then the reference recipe and the baselines.
        cases: the kinds of prompts, the most frequent first; empty when no prompt names its case.
        settings: name and value of everything needed to rerun (seed, dtype, ablation, errors, target, versions ...).
        warnings: sentences a reader must see.
        metric: what the task measures, in words, and its `unit`.
        kept: what faithfulness is a share of, in words.
        distance: whether the metric is a distance from the full model.
        edges: those of the circuit's file, the strongest into each node and into the metric.
        qk: pairs of nodes that made heads attend which carried edges, where they were asked for.
        edge_test: how many edges carry what the circuit does; None: not measured.
        cards_of: the text that the cards of the nodes' features are of, in words.
        tail: how far the circuit is from the model on the prompts where it is furthest; None: not measured.
        restored: the dictionaries with their exact errors in one place at a time; empty: not measured.
        comparisons: the first curve beside every family of baselines, at each of their sizes.
        core: what those nodes keep alone that most searches on samples of the prompts find again
            (`NodeCard.in_core`); None: no samples were searched, or no node is.
        groups: nodes that work alike, two or more each, by falling effect.
        group_test: what it costs that they move as one; None: not measured.
        controls: the same search in control dictionaries; None: there were none.
        families: circuits of families of prompts; None: not asked for.
        explained: scores of the circuit's attribution graphs; None: not measured.
    """

    task: str
    model: str
    sites: tuple[Site, ...]
    roles: tuple[str, ...]
    prompt: PromptView
    budget: tuple[TaskMetrics, ...]
    curves: tuple[Curve, ...]
    completeness: Completeness
    stability: tuple[Overlap, ...]
    nodes: tuple[NodeCard, ...]
    cases: tuple[PromptCase, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    metric: str = "logit difference"
    unit: str = "logits"
    kept: str = "logit difference"
    distance: bool = False
    edges: tuple[Edge, ...] = ()
    edge_test: EdgeTest | None = None
    qk: tuple[QKEdge, ...] = ()
    cards_of: str = HELD_OUT
    tail: PromptTail | None = None
    restored: tuple[RestoredError, ...] = ()
    comparisons: tuple[SizeComparison, ...] = ()
    core: TaskMetrics | None = None
    groups: tuple[NodeGroup, ...] = ()
    group_test: GroupTest | None = None
    controls: Controls | None = None
    families: Families | None = None
    explained: ExplainedInputs | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.task} on {self.model}"
        yield f"{plural(len(self.nodes), 'node')} at {plural(len(self.sites), 'site')}"
        yield f"faithfulness {self.budget[-2].faithfulness.value:.3g}"
        yield f"methods {listed(curve.method for curve in self.curves)}"
        if self.warnings:
            yield plural(len(self.warnings), "warning")

    def _repr_html_(self) -> str:
        return behaviours_html(self.budget, f"{self.task} on {self.model}, {plural(len(self.nodes), 'node')}")

    def save(self, path: str | Path) -> Path:
        """Write JSON, atomically, with a checksum. Returns the path."""
        return FORMAT.save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "Findings":
        """Read what `save` or :func:`gossamer.report.write_report` wrote, so that a report needs no computing.

        Raises:
            UsageError: no such file, or no findings.
            GossamerError: damaged, or changed since it was written.
        """
        return FORMAT.load(path)


def _with_metric(body: Any) -> Any:
    """Findings of before there were metrics: what is called `metric` now was the logit difference by name."""
    if isinstance(body, dict):
        return {"metric" if name == "logit_diff" else name: _with_metric(value) for name, value in body.items()}
    return [_with_metric(value) for value in body] if isinstance(body, list) else body


def _of_version_1(body: Any) -> Any:
    """What is called `task_metrics` and `incorrect` had other names."""
    names = {"behaviour": "task_metrics", "wrong": "incorrect"}
    if isinstance(body, dict):
        return {names.get(name, name): _of_version_1(value) for name, value in body.items()}
    return [_of_version_1(value) for value in body] if isinstance(body, list) else body


# Of before there were versions: no checksum, and null for numbers that are not finite.
FORMAT: Format[Findings] = Format(
    "gossamer.findings",
    2,
    Findings,
    "saved findings",
    {
        "": Older(lambda body: _of_version_1(_with_metric(body)), checksum=False),
        "gossamer.findings.1": Older(_of_version_1),
    },
)
