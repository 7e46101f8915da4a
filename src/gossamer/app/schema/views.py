"""What a reader made of a circuit's drawing."""

from typing import Annotated

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, NodeName, Shape


class Group(Shape):
    """Nodes that a reader put together under one name."""

    name: str = Field(max_length=120)
    nodes: list[NodeName] = Field(max_length=2_000)


class ViewRequest(BaseModel):
    """What a reader made of a circuit's drawing, to be kept."""

    pinned: list[NodeName] = Field(max_length=20_000)
    groups: list[Group] = Field(max_length=500)
    labels: dict[str, Annotated[str, Field(max_length=200)]] = Field(max_length=20_000)


class View(Answer):
    """One that was kept."""

    name: str
    circuit: str
    pinned: list[str]
    groups: list[Group]
    labels: dict[str, str]


class Views(Answer):
    """Names of those that were kept of a circuit."""

    names: list[str]
