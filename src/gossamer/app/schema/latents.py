"""Latents: their cards, and what they do on a text."""

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, Number, Shape
from gossamer.app.schema.explanations import ExplanationShape


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
    document: int = Field(default=0, description="Number of the text it stands in.")
    stratum: int | None = Field(default=None, description="Quantile group that it was drawn from, 0 the weakest.")


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


class TokenMean(Shape):
    """A token of the vocabulary, and how active a latent is on it.

    Attributes:
        active, occurrences: times that the latent is active there, of so many that count.
        mean: of its activation over the occurrences; `maximum`: the largest.
    """

    token: int
    text: str
    active: int
    occurrences: int
    mean: Number
    maximum: Number


class StoredLabel(Shape):
    """What a feature store keeps of what is said of a latent; `source` is the store."""

    text: str
    method: str
    score: Number
    scorer: str | None
    source: str


class Said(ExplanationShape):
    """What a study of explanations of the run says of a latent, or why there is nothing; `source` is the study."""

    source: str


class Related(Shape):
    """A latent of another dictionary that goes together with one, by one measure."""

    feature: str
    upstream: bool = Field(description="Whether the other one is computed before.")
    measure: str
    value: Number
    low: Number = None
    high: Number = None
    both: int = Field(description="Tokens at which both are active.")
    source: str = Field(description="The part of the run that says so.")


class LatentWeights(Answer):
    """What the weights say of a latent.

    Attributes:
        cosine: of encoder column and decoder row.
        encoder_norm, decoder_norm: their lengths.
        bias: of the encoder; null where the architecture has none.
        threshold: of its activation, where it has one.
        heads: of a latent of z, the share of each head by what it adds to the stream; they sum to 1.
    """

    feature: str
    cosine: Number
    encoder_norm: Number
    decoder_norm: Number
    bias: Number
    threshold: Number
    heads: list[Number] = Field(default=[])


class LatentPage(Answer):
    """A latent, whether it is in a circuit or not."""

    feature: str
    nodes: list[str] = Field(description="Nodes of circuits of this run that are this latent, as CIRCUIT NODE.")
    card: Card
    store: str | None = Field(default=None, description="Id of the feature store that the card is of.")
    tokens: list[TokenMean] = Field(default=[], description="The tokens on which its activation adds up to most.")
    labels: list[StoredLabel] = Field(default=[])
    said: list[Said] = Field(default=[])
    related: list[Related] = Field(default=[])
    related_hidden: int = Field(default=0, description="Relations beyond those listed, the weakest.")
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


class SourceRequest(TestRequest):
    """A text, and the token at which an attention latent is taken apart; null: where it is most active."""

    position: int | None = Field(None, ge=0, le=511)


class SourceTokens(Answer):
    """Which heads and which tokens an attention latent's pre-activation came from at one token, exactly.

    Attributes:
        position: the token.
        layer: of the attention.
        by_source: summed over heads, a number a token; `by_head`: summed over tokens.
        bias: what comes from no token; with the others it sums to `pre_activation`.
        shade: of each source, its size as a share of the largest.
    """

    feature: str
    tokens: list[str]
    position: int
    layer: int
    by_source: list[Number]
    by_head: list[Number]
    bias: Number
    pre_activation: Number
    activation: Number
    shade: list[Number]
    python: str
