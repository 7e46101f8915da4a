"""Sets of dictionaries that a run holds or its circuits name."""

from typing import Literal

from pydantic import Field

from gossamer.app.schema.base import Answer, Number, Shape, Table

Sort = Literal["density", "max", "name"]


class Measure(Shape):
    """A number of a dictionary: what it is by its formula, and on which text it was measured."""

    name: str
    value: Number
    formula: str = ""
    on: str


class Densities(Shape):
    """How many latents are active on which share of the tokens: bins of equal width of log10(density).

    Attributes:
        edges: shares of tokens, one more than there are bins.
        counts: latents in each bin.
        dead: latents that are active on none of the tokens; they are in no bin.
        tokens: of the text.
    """

    edges: list[float]
    counts: list[int]
    dead: int
    tokens: int


class DictionaryFacts(Shape):
    """One dictionary of a set."""

    site: str
    architecture: str | None = None
    n_latents: int | None = None
    d_in: int | None = None
    k: Number = None
    l0: Number = Field(default=None, description="Mean number of active latents per token, as its makers measured it.")
    explained_variance: Number = Field(
        default=None, description="1 - sum ||x - x_hat||^2 / sum ||x - mean||^2, as its makers measured it."
    )
    store: str | None = Field(default=None, description="Id of the feature store that knows its latents.")


class MeasuredDictionary(Shape):
    """What was measured of one dictionary."""

    site: str
    measures: list[Measure]
    densities: Densities | None = None


class SetFacts(Shape):
    """A set of dictionaries; `circuit` is the circuit that names it, where the run does not hold it itself."""

    id: str
    name: str
    model: str | None
    circuit: str | None = None
    dictionaries: list[DictionaryFacts]


class Sets(Answer):
    """All of them."""

    sets: list[SetFacts]


class DictionaryPage(Answer, SetFacts):
    """One set, and how to ask its model."""

    file: str
    example: str | None = Field(default=None, description="A text that its model knows how to go on.")
    python: str = Field(description="Lines that load `model` and `dictionaries`.")
    live: str | None = Field(default=None, description="Why the model cannot be asked; null if it can.")
    build: str | None = Field(default=None, description="What builds a feature store; null if every site has one.")
    measured: list[MeasuredDictionary] = Field(default=[], description="What is known of each dictionary, by its site.")
    controls: list[Table] = Field(default=[], description="What circuits of control dictionaries keep beside theirs.")
    circuits: list[str] = Field(default=[], description="Circuits of this run in these dictionaries.")


class LatentRow(Shape):
    """A latent in a list; what is not known is null."""

    feature: str
    label: str | None = None
    score: Number = Field(default=None, description="Of the label, by `scorer`.")
    scorer: str | None = None
    density: Number = None
    active: int | None = None
    maximum: Number = None
    top: str | None = Field(default=None, description="The word that it raises most.")
    bottom: str | None = Field(default=None, description="The word that it lowers most.")
    nodes: int = Field(default=0, description="Nodes of circuits of this run that it is.")


class LatentList(Answer):
    """Latents of one site."""

    site: str
    sort: Sort
    total: int
    cursor: int
    next: int | None = Field(default=None, description="Cursor of the next part; null at the end.")
    rows: list[LatentRow]
    text: str = Field(description="Of which text densities and activations are.")
    python: str
