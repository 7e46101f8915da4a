"""What a transformers model is given for a batch of tokens, and what is taken of what it gives."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.tokens import Tokens


def model_inputs(tokens: Tokens, past: int, *, longest: int, d_vocab: int, name: str) -> dict[str, Tensor]:
    """Ids after the first `past` positions (whose keys are known), with mask and positions where there is padding.

    Raises:
        UsageError: the tokens do not fit the model `name`.
    """
    if tokens.ids.dim() != 2 or tokens.mask.shape != tokens.ids.shape or tokens.ids.numel() == 0:
        raise UsageError(
            f"expected ids and mask of one shape (batch pos), found {tuple(tokens.ids.shape)} "
            f"and {tuple(tokens.mask.shape)}"
        )
    width = tokens.ids.shape[1]
    if width > longest:
        raise UsageError(f"expected at most {longest} tokens a prompt, found {width}; shorten the prompts")
    shortest = int(tokens.lengths.min())
    if shortest == 0:
        raise UsageError("expected at least one token in every row, found a row of padding only")
    ids = tokens.ids.masked_fill(~tokens.mask, 0)
    lowest, highest = (int(end) for end in ids.aminmax())
    if lowest < 0 or highest >= d_vocab:
        raise UsageError(
            f"expected token ids from 0 to {d_vocab - 1}, found {lowest if lowest < 0 else highest}; "
            f"use the tokenizer of {name}"
        )
    if shortest == width:
        return {"input_ids": ids[:, past:]}
    # Positions count real tokens, so that padding on the left does not move them.
    positions = (tokens.mask.cumsum(dim=1) - 1).clamp(min=0)[:, past:]
    return {"input_ids": ids[:, past:], "attention_mask": tokens.mask.long(), "position_ids": positions}


def gathered(hidden: Float[Tensor, "batch pos d_model"], at: Int[Tensor, "..."]) -> Float[Tensor, "batch d_model"]:
    """The positions `at`, one of each row.

    Raises:
        UsageError: `at` has another shape.
    """
    if at.shape != hidden.shape[:1]:
        raise UsageError(f"at: expected one position a row, shape {(len(hidden),)}, found {tuple(at.shape)}")
    return hidden[torch.arange(len(hidden), device=hidden.device), at.to(hidden.device)]
