"""What an evaluation says, as plain numbers: what a report draws and a program reads, nothing of how it came to be."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.controls import Controls
from gossamer.circuits.curve import Curve, SizeComparison
from gossamer.circuits.edge import Edge, EdgeTest, QKEdge
from gossamer.circuits.families.results import Families
from gossamer.circuits.group import GroupTest, NodeGroup
from gossamer.circuits.overlap import CORE, Overlap
from gossamer.circuits.shortfalls import ExplainedInputs, PromptTail, RestoredError, UnseenTemplates
from gossamer.circuits.task_metrics import TaskMetrics, behaviours_html
from gossamer.display import cut, listed, plural, short_repr
from gossamer.features.feature import Node
from gossamer.features.feature_card import FeatureCard
from gossamer.model.site import Site
from gossamer.results import Format, Older

# What cards are of where nothing else is said.
HELD_OUT = "the held-out prompts"


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
        unseen: what it does on templates that no search saw; None: none were set aside.
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
    unseen: UnseenTemplates | None = None

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

    def are_of(self, circuit: Circuit) -> bool:
        """Whether they are of this circuit: they have its nodes and name its task and model."""
        named = (circuit.task, circuit.model) == (self.task, self.model)
        return named and set(circuit.keys()) == {card.node for card in self.nodes}


def findings_beside(circuit: Circuit, folder: Path) -> Findings | None:
    """The findings.json of a folder, if it is of this circuit; None where there is none.

    Raises:
        GossamerError: damaged, or changed since it was written.
    """
    path = folder / "findings.json"
    found = Findings.load(path) if path.is_file() else None
    return found if found is not None and found.are_of(circuit) else None


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


# Of before there were versions: no checksum, and null for numbers that are not finite. No error nodes before version 3.
FORMAT: Format[Findings] = Format(
    "gossamer.findings",
    3,
    Findings,
    "saved findings",
    {
        "": Older(lambda body: _of_version_1(_with_metric(body)), checksum=False),
        "gossamer.findings.1": Older(_of_version_1),
        "gossamer.findings.2": Older(lambda body: body),
    },
)
