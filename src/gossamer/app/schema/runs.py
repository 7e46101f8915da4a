"""The overview."""

from typing import Literal

from pydantic import Field

from gossamer.app.schema.base import Answer, Shape


class PartFacts(Shape):
    """One file of results, in the overview."""

    id: str
    kind: str
    path: str
    bytes: int
    modified: str
    state: Literal["whole", "damaged", "newer", "not read"]
    message: str | None = None
    facts: list[str] = Field([])


class KindCount(Shape):
    """How many files of a kind are of a model."""

    kind: str
    count: int


class ModelFacts(Shape):
    """A model of the run by its title: the files of results and the tasks that are of it."""

    name: str
    tasks: list[str]
    files: list[KindCount]


class Overview(Answer):
    """What a run folder holds."""

    folder: str
    models: list[ModelFacts] = Field([], description="By title, of the files that are whole and name one.")
    parts: list[PartFacts]
    pages: list[str]
    versions: dict[str, str]
    read_only: str | None = Field(None, description="Why nothing can be saved in the folder; null if it can.")
