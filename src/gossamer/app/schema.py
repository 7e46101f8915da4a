"""What the routes answer and take. The page's TypeScript types are made of these, so that neither side can drift."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# A measured number; null where it is none, because JSON has no NaN.
Number = Annotated[float | None, BeforeValidator(_finite)]
PartId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]{1,160}$")]
# SITE/LATENT@ROLE. Roles are what a task calls them, so that only their length is limited here.
NodeName = Annotated[str, Field(min_length=3, max_length=200)]


class Shape(BaseModel):
    """Made from our own dataclasses too."""

    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null")


class Answer(Shape):
    """What every answer says.

    Attributes:
        run: name of the run's folder.
        digest: SHA-256 of the content that it was made from, where it was made from one file.
        generated_at: when, in ISO 8601, UTC.
    """

    run: str
    digest: str | None = None
    generated_at: str


class PartFacts(Shape):
    """One file of results, in the overview."""

    id: str
    kind: str
    path: str
    bytes: int
    modified: str
    state: Literal["whole", "damaged", "newer", "not read"]
    message: str | None = None
    facts: list[str] = []


class Overview(Answer):
    """What a run folder holds."""

    folder: str
    parts: list[PartFacts]
    pages: list[str]
    versions: dict[str, str]
    read_only: str | None = Field(None, description="Why nothing can be saved in the folder; null if it can.")


class IntervalShape(Shape):
    """A number with its 95 % bootstrap interval over prompts."""

    value: Number
    low: Number
    high: Number


class Metrics(Shape):
    """How one network does the task (see gossamer.circuits.task_metrics.TaskMetrics)."""

    name: str
    metric: IntervalShape
    faithfulness: IntervalShape
    faithfulness_to_dictionaries: IntervalShape
    accuracy: Number
    top1: Number
    kl: Number
    prompt_error: IntervalShape
    answer_kl: Number


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
    tokens: list[str] = []
    counterfactual: list[str] = []
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
    warnings: list[str]
    settings: dict[str, str]
    cards_of: str | None
    findings: str | None = Field(None, description="Id of the findings of the same circuit, where there are some.")
    findings_file: str | None = None
    live: str | None = Field(None, description="Why nothing can be measured anew; null if it can.")
    summary: str | None = None


class Word(Shape):
    """A word with the change of its logit."""

    word: str
    value: Number


class Example(Shape):
    """One stretch of text with the activation at every token."""

    tokens: list[str]
    activations: list[Number]
    position: int
    activation: Number
    shade: list[Number] = Field(description="Share of the latent's largest activation, 0 to 1, for each token.")


class NeighbourShape(Shape):
    """Another latent that is close by."""

    feature: str
    measure: str
    value: Number


class Card(Shape):
    """What is known of a latent (see gossamer.features.FeatureCard)."""

    feature: str
    model: str
    label: str
    explanation: str | None
    tokens: int
    active: int
    density: Number
    mean: Number
    std: Number
    maximum: Number
    edges: list[Number]
    counts: list[int]
    promotes: list[Word]
    suppresses: list[Word]
    examples: list[Example]
    strata: list[Example]
    neighbours: list[NeighbourShape]
    link: str | None
    text: str


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


class Table(Shape):
    """A table of results as the report has it."""

    title: str
    columns: list[str]
    rows: list[list[str | Number]]
    note: str = ""


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


class Evaluation(Answer):
    """Everything that a findings file says of a circuit beside its nodes."""

    metric: str
    unit: str
    budget: list[Metrics]
    curves: list[CurveShape]
    tables: list[Table]
    warnings: list[str]


class PromptRequest(BaseModel):
    """A text, and which of the tokens that may follow one of its tokens latents are attributed to."""

    text: str = Field(min_length=1, max_length=20_000)
    at: int = Field(-1, ge=-512, le=511)
    target: int | None = Field(None, ge=0)
    count: int = Field(8, ge=1, le=32, description="Latents listed of each token and site, by either measure.")


class Prediction(Shape):
    """A token that may come next."""

    token: int
    word: str
    probability: Number


class LatentAt(Shape):
    """A latent at one token."""

    feature: str
    words: list[str]
    activation: Number
    attribution: Number


class TokenAt(Shape):
    """One token of a text at one site: the latents with the largest activation or attribution there."""

    active: int
    error_share: Number
    latents: list[LatentAt]


class SiteTokens(Shape):
    """A text at one site, token by token."""

    site: str
    tokens: list[TokenAt]


class PromptPage(Answer):
    """A text as the dictionaries see it."""

    tokens: list[str]
    counted: list[bool] = Field(description="Tokens on which the dictionaries learned; the others pass through.")
    at: int
    target: Prediction
    predictions: list[Prediction]
    sites: list[SiteTokens]


class RemovalRequest(PromptRequest):
    """Which latents to take away, one at a time, at one token."""

    site: str = Field(max_length=40)
    position: int = Field(ge=0, le=511)
    latents: list[int] = Field(min_length=1, max_length=64)


class Removals(Answer):
    """Change of the target's log-probability without each latent, in nats."""

    latents: list[int]
    changes: list[Number]


class LatentPage(Answer):
    """A latent of a circuit's dictionaries, whether it is in the circuit or not."""

    feature: str
    file: str
    nodes: list[str] = Field(description="Nodes of circuits of this run that are this latent, as CIRCUIT NODE.")
    card: Card


class TestRequest(BaseModel):
    """A text to see a latent on."""

    feature: str = Field(max_length=60)
    text: str = Field(min_length=1, max_length=20_000)


class Tested(Answer):
    """A latent on a text of the reader's own."""

    feature: str
    counted: list[bool]
    example: Example


class Group(Shape):
    """Nodes that a reader put together under one name."""

    name: str = Field(max_length=120)
    nodes: list[NodeName] = Field(max_length=2_000)


class ViewRequest(BaseModel):
    """What a reader made of a circuit's drawing, to be kept."""

    pinned: list[NodeName] = Field(max_length=20_000)
    groups: list[Group] = Field(max_length=500)
    labels: dict[str, Annotated[str, Field(max_length=200)]] = Field(max_length=20_000)


class View(Answer):
    """One that was kept."""

    name: str
    circuit: str
    pinned: list[str]
    groups: list[Group]
    labels: dict[str, str]


class Views(Answer):
    """Names of those that were kept of a circuit."""

    names: list[str]
