"""Texts to padded token ids and single ids back to text, whatever the tokenizer does by itself."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from gossamer.errors import UsageError
from gossamer.tokens import Tokens

Side = Literal["left", "right"]


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts a BOS token before a text."""
    ids = tokenizer("a", add_special_tokens=True)["input_ids"]
    return tokenizer.bos_token_id is not None and len(ids) > 0 and ids[0] == tokenizer.bos_token_id


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of BOS, EOS, padding, marks of a chat and whatever else is no text; none where there is no tokenizer."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return frozenset(getattr(tokenizer, "all_special_ids", ())) | {id for id, token in added if token.special}


def encode(tokenizer: Any, texts: Sequence[str], bos: bool | None, side: Side) -> Tokens:
    """Ids of `texts`, padded on `side`. `bos`: exactly one BOS token, none, or what the tokenizer does (None).

    Raises:
        UsageError: there are no texts, one of them has no tokens, or BOS is asked of a tokenizer that has none.
    """
    if isinstance(texts, str):
        raise UsageError("expected a list of texts, found one text; put it in a list")
    if side not in ("left", "right"):
        raise UsageError(f"padding side {side!r}: expected 'left' or 'right'")
    rows = [_row(tokenizer, text, bos) for text in texts]
    if not rows or not all(rows):
        where = f"text {next(i for i, row in enumerate(rows) if not row)} is empty" if rows else "found no text"
        raise UsageError(f"expected texts of at least one token each: {where}")
    width = max(map(len, rows))
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    ids = torch.full((len(rows), width), padding)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place], mask[index, place] = torch.tensor(row), True
    return Tokens(ids, mask)


def _row(tokenizer: Any, text: str, bos: bool | None) -> list[int]:
    if bos is None:
        return list(tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"])
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    if not bos:
        return ids
    first = tokenizer.bos_token_id
    if first is None:
        raise UsageError("a BOS token is asked for, but the tokenizer has none; use --no-bos (bos=False in Python)")
    return ids if ids[:1] == [first] else [first, *ids]


def word(tokenizer: Any, token_id: int) -> str:
    """The text of one token, with its leading space."""
    token = tokenizer.convert_ids_to_tokens(int(token_id))
    if token is None:
        return f"<{token_id}>"
    # A tokenizer that marks spaces with "▁" drops the leading one when it decodes a token alone.
    return token.replace("▁", " ") if "▁" in token else str(tokenizer.decode([int(token_id)]))
