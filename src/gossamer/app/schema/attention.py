"""Attention: prompts taken apart, and traces."""

from typing import Any

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, Number, PartId, Shape
from gossamer.app.schema.studies import Picture


class AttributionPage(Answer):
    """Prompts taken apart."""

    title: str
    file: str | None
    data: dict[str, Any] = Field(description="gossamer.attention.AttributionData, as its file has it.")
    shown: dict[str, Any] = Field(description="Its texts, with nothing invisible in them.")


class AttentionRequest(BaseModel):
    """A text to take apart, and what to begin with: two answers, or a latent; neither: only its latents."""

    text: str = Field(min_length=1, max_length=4_000)
    answer: str | None = Field(None, max_length=200)
    wrong: str | None = Field(None, max_length=200)
    feature: str | None = Field(None, max_length=60)
    position: int = Field(-1, ge=-512, le=511)
    latents: int = Field(8, ge=1, le=32, description="Of each dictionary at each token, taken apart.")


class TraceNodeShape(Shape):
    """A node of a trace; parents come before children, which follow them, the largest first."""

    number: int
    parent: int | None
    depth: int
    name: str
    kind: str
    place: str
    contribution: Number
    share: Number = Field(description="Of its parent's contribution.")
    share_of_root: Number
    head: int | None = Field(description="That carried most of it.")
    head_contribution: Number
    activation: Number
    bias: Number
    remainder: Number
    expanded: bool
    feature: str | None = Field(description="SITE/LATENT of a latent at one token of a prompt.")
    back: int | None = Field(description="Its token, counted from the end: -1 is the last.")
    predicted: Number = Field(description="What it contributes to its parent's function, where it was checked.")
    frozen: Number = Field(description="What removing it did, with patterns and norms held.")
    live: Number = Field(description="The same with nothing held.")


class AgreementShape(Shape):
    """How predicted and measured effects agree: Spearman's correlation with its interval."""

    name: str
    value: Number
    low: Number
    high: Number
    edges: int
    texts: int


class TracePage(Answer):
    """Where a number inside the model came from."""

    title: str
    target: str
    file: str
    prompt: list[str]
    prompts: int
    set: PartId | None = Field(description="The set of the run whose latents these are; null: no text can be followed.")
    text: str | None = Field(description="The prompt, as it can be given again.")
    nodes: list[TraceNodeShape]
    agreement: list[AgreementShape]
    pictures: list[Picture]
