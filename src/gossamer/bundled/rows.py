"""Documents as weighted token rows, and the batches of a training run."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gossamer.bundled.corpus import CONTEXT, Document, documents

# The hardest kind goes first and alone: among the others, which are learned sooner, it is not learned at all for long.
FIRST: tuple[dict[str, float], ...] = ({"key": 1.0},)
# Kinds of like length share a forward pass; the second number is the share of `Recipe.batch` that a kind gets.
GROUPS: tuple[dict[str, float], ...] = (
    {"ioi": 1.2, "agreement": 0.6},
    {"index": 0.5},
    {"key": 0.8},
    {"story": 0.2, "session": 0.4},
)


@dataclass(frozen=True)
class WeightedRows:
    """Documents as padded token rows: BOS, text, end of text.

    Attributes:
        ids: tokens; padding repeats the end-of-text token.
        weights: weight in the loss of *predicting* the token at that place; 0 at BOS and padding.
    """

    ids: Int[Tensor, "batch pos"]
    weights: Float[Tensor, "batch pos"]


def encode(found: Sequence[Document], tokenizer: PreTrainedTokenizerFast, longest: int) -> WeightedRows:
    """Tokenise documents, cut at `longest` tokens, each token with the weight of its fragment."""
    end = tokenizer.eos_token_id
    ids, weights = [], []
    for document in found:
        pieces = tokenizer([text for text, _ in document.fragments], add_special_tokens=False)["input_ids"]
        row, weight = [end], [0.0]
        for tokens, (_, share) in zip(pieces, document.fragments, strict=True):
            row += tokens
            weight += [share] * len(tokens)
        ids.append([*row, end][:longest])
        weights.append([*weight, CONTEXT][:longest])
    width = max(map(len, ids))
    return WeightedRows(
        torch.tensor([row + [end] * (width - len(row)) for row in ids]),
        torch.tensor([row + [0.0] * (width - len(row)) for row in weights]),
    )


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, *, batch: int, longest: int, first_steps: int
) -> Iterator[list[WeightedRows]]:
    """For every step one :class:`Rows` a group of `GROUPS`; the first `first_steps` have those of `FIRST`, short ones.

    Each group is padded to its own length, which is what makes a step cheap.
    """
    for groups, short, steps in ((FIRST, True, range(first_steps)), (GROUPS, False, itertools.count())):
        streams = {kind: documents(kind, seed, short) for group in groups for kind in group}
        counts = [{kind: max(1, round(share * batch)) for kind, share in group.items()} for group in groups]
        for _ in steps:
            drawn = ([next(streams[kind]) for kind, n in group.items() for _ in range(n)] for group in counts)
            yield [encode(found, tokenizer, longest) for found in drawn]
