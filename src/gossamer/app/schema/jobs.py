"""Jobs, what they say while they work, and what is asked of them."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gossamer.app.schema.base import Answer, Number, PartId, Shape

# As long as a feature's name or a unit can be.
_Short = Annotated[str, Field(min_length=3, max_length=60)]


class Started(Shape):
    """The worker has begun; loading a model for the first time takes a while."""

    event: Literal["started"]


class Progress(Shape):
    """How far it is, in words."""

    event: Literal["progress"]
    said: str


class ChosenToken(Shape):
    """A token with the probability that its own model gave it."""

    word: str
    probability: Number


class TokenEvent(Shape):
    """One place of the unsteered and of the steered text; null where a text has ended."""

    event: Literal["token"]
    default: ChosenToken | None
    steered: ChosenToken | None


class PushShape(Shape):
    """What one intervention does alone: coefficient, mean change over mean length, its feature's activation."""

    kind: str
    feature: str | None
    raw: Number
    relative_norm: Number
    before: Number
    after: Number


class PriceEvent(Shape):
    """What steering costs on neutral text: rise of cross-entropy and KL in nats a token, share of changed tokens; and,
    where the concept's words were given, how many of them each text has."""

    event: Literal["price"]
    text: str
    tokens: int
    cross_entropy: Number
    kl: Number
    changed: Number
    pushes: list[PushShape]
    words: list[str]
    default_hits: int | None
    steered_hits: int | None


class ExplainedEvent(Shape):
    """A sentence for a latent with its scores, by scorer: value and interval, and how the items ended."""

    event: Literal["explained"]
    feature: str
    text: str
    failure: str
    scores: list["JobScore"]
    kept: str | None


class JobScore(Shape):
    """One score of an explanation."""

    scorer: str
    control: str
    value: Number
    low: Number
    high: Number
    right: int
    wrong: int
    unparsed: int
    error: int
    reason: str


class Ended(Shape):
    """Nothing more comes."""

    event: Literal["done", "failed", "cancelled"]
    message: str


JobEvent = Started | Progress | TokenEvent | PriceEvent | ExplainedEvent | Ended


class JobShape(Shape):
    """A job in the list."""

    id: str
    kind: str
    label: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    on_close: Literal["is cancelled", "goes on"]
    ahead: int


class JobPage(Answer):
    """A job with all that it said."""

    job: JobShape
    events: list[Annotated[JobEvent, Field(discriminator="event")]]


class JobList(Answer):
    """Jobs that wait, run or ended lately."""

    jobs: list[JobShape]


class SteerSpec(BaseModel):
    """One latent, and what is done with it.

    `add` adds `strength` decoder rows, `clamp` sets the activation, `scale` multiplies it, `project` takes the
    direction out (without a strength).
    """

    feature: _Short
    mode: Literal["add", "clamp", "scale", "project"] = "add"
    strength: float = Field(1.0, ge=-1e6, le=1e6)
    unit: Literal["raw", "residual_norm", "max_activation"] = "residual_norm"


class SteerJob(BaseModel):
    """Continue a prompt without and with steering."""

    kind: Literal["steer"] = "steer"
    dictionaries: PartId
    prompt: str = Field(max_length=20_000)
    specs: list[SteerSpec] = Field(min_length=1, max_length=16)
    positions: Literal["all", "new"] = "all"
    seed: int = Field(0, ge=0, le=2**31 - 1)
    n_tokens: int = Field(40, ge=1, le=512)
    temperature: float = Field(0.7, ge=0, le=5)
    words: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field([], max_length=40)
    neutral: str = Field("", max_length=20_000)


class ExplainJob(BaseModel):
    """Find a rule for a latent of a feature store, and score it."""

    kind: Literal["explain"]
    store: PartId
    feature: _Short


class JobRequest(BaseModel):
    """What is to be done."""

    job: Annotated[SteerJob | ExplainJob, Field(discriminator="kind")]
