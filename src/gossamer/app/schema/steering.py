"""The view of a sweep of steering."""

from gossamer.app.schema.base import Answer, IntervalShape, Number, Shape
from gossamer.app.schema.curves import CurvesData


class Named(Shape):
    """What can be chosen, and what it is called."""

    id: str
    name: str


class ChosenShape(Shape):
    """What a method reaches at a cost: chosen on one half of prompts and text, measured on the other."""

    budget: float
    amount: str
    benefit: IntervalShape
    cost: IntervalShape


class MethodShape(Shape):
    """One method of a sweep; `cosine` with the mean difference and `auroc` are of its direction on held-out texts, and
    `explained` says what a fit of effects explains that its vector rests on."""

    method: str
    control: bool
    area: IntervalShape
    difference: IntervalShape
    improves: bool
    chosen: list[ChosenShape]
    cosine: Number
    auroc: Number
    explained: str | None
    warned: bool


class JudgedShape(Shape):
    """A judge's harmonic mean over the completions that it rated, and how many it did not."""

    score: Number
    rated: int
    unparsed: int
    error: int


class CellShape(Shape):
    """One cell of a sweep (see gossamer.steering.summary.CellSummary)."""

    method: str
    amount: str
    feature: str
    raw: Number
    relative_norm: Number
    activation: Number
    benefit: IntervalShape
    cost: IntervalShape
    hit: Number
    words: Number
    classified: Number
    cross_entropy: Number
    kl: Number
    changed: Number
    log_probability: Number
    distinct_2: Number
    repeated_4: Number
    zlib_ratio: Number
    off_target: Number
    moved: int | None
    accuracy: dict[str, Number]
    judged: JudgedShape | None
    examples: list[str]


class FindingShape(Shape):
    """What was published of a method, and what this sweep says to it."""

    claim: str
    method: str
    difference: IntervalShape | None
    verdict: str


class SweepPage(Answer):
    """A sweep: what each method brings at which cost."""

    id: str
    file: str
    model: str
    sites: list[str]
    words: list[str]
    prompts: list[str]
    samples: int
    new_tokens: int
    neutral_tokens: int
    judge: str | None
    judge_said: str | None
    done: int
    planned: int
    benefits: list[Named]
    costs: list[Named]
    references: list[str]
    benefit: str
    cost: str
    reference: str | None
    limit: float
    curves: CurvesData | None
    not_drawn: str | None
    methods: list[MethodShape]
    cells: list[CellShape]
    findings: list[FindingShape]
    absent: dict[str, str]
