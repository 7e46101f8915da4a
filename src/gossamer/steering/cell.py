"""One cell of a sweep, and the batches that cells are measured in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.activations.text import bos_id, encode
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.steering.coefficient import Coefficient
from gossamer.steering.intervention import Intervention
from gossamer.steering.steered import Steering
from gossamer.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Cell:
    """One way of steering at one strength.

    Attributes:
        method: the row of the table it belongs to; cells of one method differ in strength.
        interventions: what is done; none for the unsteered model and for prompts.
        prefix: words before every text, for the prompt baseline.
    """

    method: str
    interventions: tuple[Intervention, ...] = ()
    prefix: str = ""

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.method
        yield from (f"{one.kind} {one.coefficient} at {one.site}" for one in self.interventions)
        if self.prefix:
            yield f"after {self.prefix!r}"

    @property
    def coefficient(self) -> Coefficient | None:
        """That of its first intervention."""
        return self.interventions[0].coefficient if self.interventions else None


def cells_of(method: str, intervention: Intervention, coefficients: Sequence[Coefficient]) -> list[Cell]:
    """One intervention at several strengths."""
    return [Cell(method, (intervention.at(one),)) for one in coefficients]


def steering_of(cells: Sequence[Cell], rows: int, prompt_lengths: Int[Tensor, "batch"] | None = None) -> Steering:
    """The steering of a batch that holds `rows` rows of each cell, cell after cell."""
    return Steering(
        [cell.interventions for cell in cells], torch.arange(len(cells)).repeat_interleave(rows), prompt_lengths
    )


def with_prefix(model: LanguageModel, tokens: Tokens, prefix: str) -> Tokens:
    """The same rows with the tokens of `prefix` before their text (behind BOS, where rows begin with it).

    Rows are padded on the right.

    Raises:
        UsageError: a row is then longer than the model's context.
    """
    if not prefix:
        return tokens
    ids = torch.tensor(encode(model, prefix), dtype=torch.long)
    bos = bos_id(model)
    place = 0 if bos is None else int(torch.all(tokens.ids[:, 0] == bos))
    width = len(ids) + tokens.ids.shape[1]
    if width > model.n_context:
        raise UsageError(
            f"prompt baseline: prefix and text of at most {model.n_context} tokens expected, found {width}; shorten one"
        )
    put = ids.expand(len(tokens), -1)
    real = torch.ones_like(put, dtype=torch.bool)
    return Tokens(
        torch.cat([tokens.ids[:, :place], put, tokens.ids[:, place:]], dim=1),
        torch.cat([tokens.mask[:, :place], real, tokens.mask[:, place:]], dim=1),
    )
