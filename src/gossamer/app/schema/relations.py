"""The relations view."""

from typing import Any

from pydantic import Field

from gossamer.app.schema.base import Answer, IntervalShape, Number, PartId, Shape


class MeasureFacts(Shape):
    """A measure that a graph can be drawn by."""

    name: str
    chance: Number = Field(description="From which value on at most 5 % of all pairs are expected by chance.")


class RelationsPage(Answer):
    """What was counted of some dictionaries, and what was found in it."""

    id: str
    file: str
    folder: str
    title: str
    tokens: int
    dictionaries: list[str]
    data: dict[str, Any] = Field(description="gossamer.relations.RelationsData, as its file has it.")
    shown: dict[str, Any] = Field(description="Its texts, with nothing invisible in them.")
    measures: list[MeasureFacts] = Field(description="Of the graph, that of the folder's own first; none: no graph.")
    graph: str | None = Field(None, description="Why there is no graph; null if there is one.")
    latents: PartId | None = Field(None, description="The set of the run that these dictionaries are, as far as known.")


class PartnerShape(Shape):
    """A latent that another one has an edge with."""

    name: str
    words: list[str]
    similarity: Number
    both: int | None = Field(description="Tokens at which both are active; null where the pair was not counted here.")


class GraphNode(Answer):
    """A latent of a graph."""

    name: str
    words: list[str]
    explanation: str | None
    link: str | None
    community: int
    community_words: list[str]
    active: int
    tokens: int
    upstream: list[PartnerShape] = Field(description="That it has edges from, the strongest first.")
    downstream: list[PartnerShape]
    hidden: int = Field(description="Edges beyond those that are listed.")


class MeasuredShape(Shape):
    """A measure of a pair, with its interval where it has one."""

    name: str
    value: IntervalShape


class ExampleWords(Shape):
    """A stretch of text with the token at which a latent fires."""

    before: str
    token: str
    after: str
    activation: Number


class LatentOfPair(Shape):
    """One end of a pair."""

    name: str
    words: list[str]
    explanation: str | None
    active: int
    examples: list[ExampleWords]


class JointExample(Shape):
    """A token at which both latents of a pair are active."""

    before: str
    token: str
    after: str
    upstream: Number
    downstream: Number


class CausalShape(Shape):
    """What ablating the upstream latent did to the downstream one."""

    effect: Number = Field(description="Of its largest activation, what the downstream latent loses.")
    absolute: Number
    tokens: int | None
    rank: Number = Field(description="Share of the ablated pairs of these dictionaries with a smaller effect.")
    pairs: int


class PairPage(Answer):
    """Two latents at the same tokens."""

    upstream: LatentOfPair
    downstream: LatentOfPair
    tokens: int
    table: list[list[int]] = Field(description="Rows: upstream active, not; columns: downstream active, not.")
    phi: IntervalShape
    lift: IntervalShape
    measures: list[MeasuredShape]
    joint: list[JointExample] = Field(description="In the prompts of the file, the strongest first.")
    causal: CausalShape | None
    causal_said: str
