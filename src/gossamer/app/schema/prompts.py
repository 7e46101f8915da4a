"""The prompt view."""

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, Number, Shape


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
