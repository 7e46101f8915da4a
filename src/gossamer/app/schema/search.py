"""Search over a run."""

from typing import Literal

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, Number, PartId, Shape

Kind = Literal["id", "explanation", "token", "word", "node", "file"]


class Hit(Shape):
    """Something of the run that fits what was asked.

    Attributes:
        kind: by what it was found: a latent's name, the text of an explanation, a token of the corpus on which it is
            most active, a word that it raises, a node of a circuit, or a file of results.
        dictionaries: id of the set that the latent is of; empty for files.
        feature: the latent; empty for files.
        text: what was found.
        score: what hits of a kind are sorted by; `measure` says what it is.
        source: id of the part of the run that was searched.
    """

    kind: Kind
    dictionaries: str = ""
    feature: str = ""
    text: str
    score: Number = None
    measure: str = ""
    source: str


class HitCount(Shape):
    """How many hits of a kind are listed, and whether there are more."""

    kind: Kind
    listed: int
    more: bool


class SearchPage(Answer):
    """What a search found, and what could not be searched."""

    q: str
    folder: str
    hits: list[Hit]
    counts: list[HitCount]
    notes: list[str]


class TextSearch(BaseModel):
    """A text whose most specific latents are wanted."""

    text: str = Field(min_length=1, max_length=20_000)
    dictionaries: PartId
    count: int = Field(50, ge=1, le=500)


class SpecificShape(Shape):
    """A latent on a text (see gossamer.store.specific.SpecificLatent)."""

    feature: str
    activation: Number
    position: int
    token: str
    density: Number
    specificity: Number
    label: str = ""


class TextSearchPage(Answer):
    """The latents that say most of a text."""

    tokens: list[str]
    latents: list[SpecificShape]
    text: str = Field(description="Of which text densities are.")
    python: str
