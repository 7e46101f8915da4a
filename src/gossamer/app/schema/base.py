"""What the answers of all views are made of."""

import math
from typing import Annotated, Any

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


class IntervalShape(Shape):
    """A number with its 95 % bootstrap interval over prompts."""

    value: Number
    low: Number
    high: Number


class Table(Shape):
    """A table of results as the report has it."""

    title: str
    columns: list[str]
    rows: list[list[str | Number]]
    note: str = ""
    footnote: str = Field(default="", description="What a mark in its cells says.")
