"""Sets of dictionaries that a run holds or its circuits name."""

from pydantic import Field

from gossamer.app.schema.base import Answer, Number, Shape


class DictionaryFacts(Shape):
    """One dictionary of a set, by its own file."""

    site: str
    architecture: str | None = None
    n_latents: int | None = None
    d_in: int | None = None
    k: Number = None
    l0: Number = Field(None, description="Mean number of active latents per token, as its makers measured it.")
    explained_variance: Number = Field(
        None, description="1 - sum ||x - x_hat||^2 / sum ||x - mean||^2, as its makers measured it."
    )


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
    example: str | None = Field(None, description="A text that its model knows how to go on.")
    python: str = Field(description="Lines that load `model` and `dictionaries`.")
    live: str | None = Field(None, description="Why the model cannot be asked; null if it can.")
