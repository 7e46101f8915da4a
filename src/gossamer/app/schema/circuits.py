"""The circuit view."""

from typing import Literal

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, IntervalShape, NodeName, Number, Shape, Table
from gossamer.app.schema.curves import CurvesData
from gossamer.app.schema.latents import Card


class Metrics(Shape):
    """How one network does the task (see gossamer.circuits.task_metrics.TaskMetrics).

    Attributes:
        mark: stands beside the faithfulness of a circuit that exceeds its dictionaries' own; empty of all others.
    """

    name: str
    metric: IntervalShape
    faithfulness: IntervalShape
    faithfulness_to_dictionaries: IntervalShape
    accuracy: Number
    top1: Number
    kl: Number
    prompt_error: IntervalShape
    answer_kl: Number
    mark: str


class PromptShape(Shape):
    """A prompt of the task, its tokens written so that nothing in them is invisible."""

    tokens: list[str]
    roles: list[str | None]
    counterfactual: list[str]
    answer: str
    incorrect: str


class MapColumn(Shape):
    """A role of the map: its tokens in the example prompt, and those that differ in the counterfactual."""

    id: str
    label: str
    tokens: list[str] = Field([])
    counterfactual: list[str] = Field([])
    passed: bool = False


class MapNode(Shape):
    """A node of the map; `row` and `column` are places among the map's."""

    id: str
    index: int
    row: int
    column: int
    name: str
    words: list[str]
    latent: int | None
    kind: Literal["latent", "error"]
    effect: Number
    direct: Number
    activation: Number
    ablated: Number
    recurrence: Number
    href: str | None = None


class MapHead(Shape):
    """What a head carried of an edge."""

    layer: int
    head: int
    weight: Number


class MapEdge(Shape):
    """An edge of the map; a target may be the metric's id."""

    source: str
    target: str
    weight: Number
    influence: Number
    direct: Number
    heads: list[MapHead]
    others: Number


class MapGroup(Shape):
    """Nodes of one row that may be folded into one box."""

    id: str
    label: str
    nodes: list[str]
    effect: Number


class MapMetric(Shape):
    """What edges end in."""

    id: str
    label: str
    unit: str


class MapData(Shape):
    """A circuit as the map draws it: the same values as in the report."""

    format: str
    metric: MapMetric
    rows: list[str]
    columns: list[MapColumn]
    nodes: list[MapNode]
    edges: list[MapEdge]
    groups: list[MapGroup]


class CircuitPage(Answer):
    """A circuit with everything that its drawing needs."""

    id: str
    file: str
    title: str
    task: str
    model: str
    metric: str
    unit: str
    kept: str
    sites: list[str]
    roles: list[str]
    prompt: PromptShape | None
    map: MapData
    hidden_nodes: int = Field(description="Of the circuit's nodes, the weakest that the map leaves out.")
    hidden_edges: int
    measured: dict[str, Number]
    budget: list[Metrics]
    footnote: str | None = Field(None, description="What the mark in the summary says; null where it has none.")
    warnings: list[str]
    settings: dict[str, str]
    cards_of: str | None
    findings: str | None = Field(None, description="Id of the findings of the same circuit, where there are some.")
    findings_file: str | None = None
    live: str | None = Field(None, description="Why nothing can be measured anew; null if it can.")
    summary: str | None = None


class NodePage(Answer):
    """A node of a circuit: its latent's card and what only the circuit knows."""

    name: str
    role: str
    effect: Number
    activation: Number
    ablated: Number
    direct: Number
    recurrence: Number
    generic: list[str]
    card: Card


class ScoreRequest(BaseModel):
    """Which nodes to keep."""

    nodes: list[NodeName] = Field(max_length=20_000)
    prompts: Literal["choice", "held out"] = "choice"


class Score(Answer):
    """What some of a circuit's nodes do by themselves, and what is left without them."""

    prompts: int
    measured_on: str
    pinned: Metrics
    without: Metrics
    circuit: Metrics
    empty: Metrics
    dictionaries: Metrics
    footnote: str | None = Field(description="What the mark of these rows says; null where none has it.")


class PatchRequest(BaseModel):
    """Which nodes to move in the model, where to, on which prompt."""

    nodes: list[NodeName] = Field(min_length=1, max_length=2_000)
    mode: Literal["zero", "mean", "resample", "value"]
    value: float = Field(0.0, ge=-1e6, le=1e6)
    prompt: int = Field(0, ge=0)


class WordChangeShape(Shape):
    """A token before and after."""

    word: str
    logit: Number
    patched_logit: Number
    probability: Number
    patched_probability: Number


class Patched(Answer):
    """A prompt in the model, and in the model with the nodes moved."""

    prompt: PromptShape
    mode: str
    metric: Number
    patched_metric: Number
    kl: Number
    words: list[WordChangeShape]


class PromptRow(Shape):
    """A held-out prompt in a list."""

    row: int
    text: str
    answer: str
    incorrect: str
    case: str


class Prompts(Answer):
    """Held-out prompts of the task."""

    total: int
    rows: list[PromptRow]


class CurvePointShape(Shape):
    """One circuit of a size-faithfulness curve."""

    size: int
    unique_latents: int
    task_metrics: Metrics


class CurveShape(Shape):
    """Circuits of one method from large to small."""

    method: str
    points: list[CurvePointShape]
    seconds: Number
    cpr: Number
    cmd: Number


class CaseShape(Shape):
    """Full model and circuit on the held-out prompts of one kind."""

    name: str
    prompts: int
    full: Metrics
    circuit: Metrics


class CircuitTests(Answer):
    """Everything that a findings file says of a circuit beside its nodes."""

    metric: str
    unit: str
    budget: list[Metrics]
    curves: list[CurveShape]
    drawn: CurvesData | None = Field(description="The curves as they are drawn; null where none was measured.")
    cases: list[CaseShape]
    footnote: str | None = Field(description="What the mark of budget, curves and cases says; null where none has it.")
    tables: list[Table]
    warnings: list[str]
