"""The view of explanations and their scores."""

from gossamer.app.schema.base import Answer, IntervalShape, Number, Shape
from gossamer.chat.chat import Ability


class ScoreShape(Shape):
    """What one judge and scorer found for one explanation (see gossamer.explain.answers.ExplanationScore)."""

    judge: str
    scorer: str
    control: str
    value: Number
    low: Number
    high: Number
    auroc: IntervalShape | None
    right: int
    wrong: int
    unparsed: int
    error: int
    worst: Number
    best: Number
    reason: str
    ability: Ability


class ExplanationShape(Shape):
    """What was said of a latent, or why nothing was."""

    feature: str
    method: str
    model: str
    text: str
    failure: str
    active: int
    saved: Number
    kind: str
    scores: list[ScoreShape]


class SummaryShape(Shape):
    """Mean over latents of one explainer, judge, scorer and control."""

    method: str
    judge: str
    scorer: str
    control: str
    mean: IntervalShape | None
    scored: int
    unscored: int
    right: int
    wrong: int
    unparsed: int
    error: int
    ability: Ability


class GoldShape(Shape):
    """A judge on questions whose answers are known."""

    judge: str
    value: Number
    low: Number
    high: Number
    auroc: IntervalShape | None
    ability: Ability
    said: str


class ComparedShape(Shape):
    """At how many latents an explainer's sentence is no better than a word list."""

    method: str
    no_better: int
    compared: int


class UsageShape(Shape):
    """What a server's answers took, in tokens."""

    answers: int
    unread: int
    prompt_tokens: int
    output_tokens: int
    models: list[str]


class ExplanationsPage(Answer):
    """A study of explanations."""

    id: str
    folder: str
    model: str
    corpus: str
    explainer: str
    judge: str
    planned: int
    sentences: int
    failures: int
    unscored: str | None
    summary: list[SummaryShape]
    gold: list[GoldShape]
    compared: list[ComparedShape]
    usage: UsageShape | None
    total: int
    rows: list[ExplanationShape]
