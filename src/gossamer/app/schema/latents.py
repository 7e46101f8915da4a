"""Latents: their cards, and what they do on a text."""

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, Number, Shape


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


class LatentPage(Answer):
    """A latent, whether it is in a circuit or not."""

    feature: str
    nodes: list[str] = Field(description="Nodes of circuits of this run that are this latent, as CIRCUIT NODE.")
    card: Card
    python: str = Field(description="The call that gives the card.")


class TestRequest(BaseModel):
    """A text to see a latent on."""

    feature: str = Field(max_length=60)
    text: str = Field(min_length=1, max_length=20_000)


class Tested(Answer):
    """A latent on a text of the reader's own."""

    feature: str
    counted: list[bool]
    example: Example
