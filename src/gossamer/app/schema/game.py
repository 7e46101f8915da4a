"""The game: a round without its answers, what a player said, and what is told afterwards."""

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, IntervalShape, Number, PartId, Shape


class GameText(Shape):
    """A text with the places of its marked tokens."""

    tokens: list[str]
    marks: list[int]


class GameItemShape(Shape):
    """One latent to be guessed: nothing in it says which one it is, or what is right."""

    blind: str
    shown: list[GameText]
    choices: list[str]
    sorted: list[GameText]


class GameRoundShape(Answer):
    """A round, the same for all who play it."""

    store: str
    round: str
    seed: int
    model: str
    machines: list[str]
    items: list[GameItemShape]
    kept: str | None = Field(None, description="Why no result is kept on the leader board; null if it is.")


class PlayedItem(BaseModel):
    """What a player said of one latent."""

    choice: int | None = Field(None, ge=0, le=7)
    written: str = Field("", max_length=512)
    answers: list[bool | None] = Field(max_length=64)


class GameAnswer(BaseModel):
    """What a player said in a round."""

    store: PartId
    seed: int = Field(ge=0, le=2**31 - 1)
    count: int = Field(10, ge=1, le=20)
    round: str = Field(pattern=r"^[0-9a-f]{8}$")
    player: str = Field("you", min_length=1, max_length=40)
    items: list[PlayedItem] = Field(min_length=1, max_length=20)


class PlayerShape(Shape):
    """A player's result: sorting is balanced accuracy, choosing the share of right sentences, both with Wilson's
    intervals."""

    player: str
    sorting: IntervalShape | None
    choosing: IntervalShape | None


class ToldItem(Shape):
    """What was behind one latent of the round, and what each player said of its texts."""

    blind: str
    feature: str
    text: str
    right: bool | None
    written: str
    texts: list[GameText]
    truths: list[bool]
    said: dict[str, list[bool | None]]


class BoardRow(Shape):
    """A row of the leader board."""

    player: str
    at: str
    sorting: Number
    low: Number
    high: Number
    choosing: Number


class GameResult(Answer):
    """A round after it was played."""

    store: str
    folder: str
    round: str
    players: list[PlayerShape]
    items: list[ToldItem]
    board: list[BoardRow]
    kept: str | None
