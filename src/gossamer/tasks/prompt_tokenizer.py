"""How a tokenizer spells a prompt: which token belongs to which piece, told by the tokenizer's own offsets."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from gossamer.errors import UsageError
from gossamer.tasks.prompt import Piece, join

END = "END"
_RESERVED = re.compile(r"(gap\d+)?")
BOS = ""
"""The role of a BOS token: none."""


@dataclass(frozen=True)
class SpelledWord:
    """A named piece as tokens; `separable` is False if one of them also covers text outside the piece."""

    role: str
    text: str
    ids: tuple[int, ...]
    separable: bool


@dataclass(frozen=True)
class Spelled:
    """One prompt in tokens: id, role and offset within the role's run of each, BOS included, and its named words."""

    ids: tuple[int, ...]
    roles: tuple[str, ...]
    offsets: tuple[int, ...]
    words: tuple[SpelledWord, ...]

    def by_position(self) -> "Spelled":
        """The same tokens with a role for each position: p0, p1, ... and END."""
        start = self.roles.count(BOS)
        places = [f"p{index}" for index in range(len(self.ids) - start - 1)]
        return replace(self, roles=(BOS,) * start + (*places, END), offsets=(0,) * len(self.ids))


@dataclass(frozen=True)
class SpelledAnswer:
    """What an answer adds to the tokens of its prompt; `continues` unless it changes the prompt's own tokens."""

    added: tuple[int, ...]
    continues: bool

    @property
    def id(self) -> int | None:
        """The answer, if it is exactly one new token."""
        return self.first if len(self.added) == 1 else None

    @property
    def first(self) -> int | None:
        """The first of its tokens, if the prompt's own stay as they are."""
        return self.added[0] if self.continues and self.added else None


def token_text(tokenizer: Any, token: int) -> str:
    """One token as text with its leading space; one that decodes to nothing (a lone space mark) as it is written."""
    written = str(tokenizer.convert_ids_to_tokens(token))
    # A tokenizer that marks spaces with "▁" drops the leading one when it decodes a token alone.
    return written.replace("▁", " ") if written.startswith("▁") else str(tokenizer.decode([token]) or written)


class PromptTokenizer:
    """A Hugging Face fast tokenizer that knows whether a BOS token comes first.

    Raises:
        UsageError: the tokenizer has no offsets (it is not a fast one), or BOS is asked of one that has none.
    """

    def __init__(self, tokenizer: Any, bos: bool | None = None) -> None:
        """`bos` None does what the tokenizer does by default."""
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                f"{type(tokenizer).__name__}: a fast tokenizer expected, because roles are found by its offsets; "
                "load it with AutoTokenizer.from_pretrained(..., use_fast=True)"
            )
        self.tokenizer = tokenizer
        self._start = _start(tokenizer, bos)

    @property
    def bos(self) -> bool:
        """Whether prompts begin with a BOS token."""
        return bool(self._start)

    @property
    def written_bos(self) -> str:
        """How BOS is written out in a text so that the tokenizer reads it there; "" if it cannot be."""
        token = self._start[0] if self._start else self.tokenizer.bos_token_id
        text = "" if token is None else str(self.tokenizer.convert_ids_to_tokens(token))
        return text if text and self.ids([text]) == [[token]] else ""

    @property
    def padding(self) -> int:
        """An id to pad with; it is masked, so any that the model knows will do."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.bos_token_id)
        return next((int(token) for token in known if token is not None), 0)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of `texts`, without BOS."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def word(self, token: int) -> str:
        """The text of one token."""
        return token_text(self.tokenizer, token)

    def spell(self, prompts: Sequence[tuple[Piece, ...]]) -> list[Spelled]:
        """Tokens of each prompt with their roles.

        A token belongs to the piece in which its first character stands that is no white space, so that " Mary" is the
        token of the name whether the space before it is in the piece or not.

        Raises:
            UsageError: a prompt is empty.
        """
        texts = [join(pieces) for pieces in prompts]
        for row, text in enumerate(texts):
            if not text.strip():
                raise UsageError(f"prompt {row}: text expected, found {text!r}; remove the row")
        if not texts:
            return []
        batch = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        rows = zip(prompts, texts, batch["input_ids"], batch["offset_mapping"], strict=True)
        return [self._spelled(pieces, text, ids, offsets) for pieces, text, ids, offsets in rows]

    def _spelled(self, pieces: tuple[Piece, ...], text: str, ids: list[int], offsets: list[tuple[int, int]]) -> Spelled:
        runs = _runs(pieces)
        starts = [start for start, _ in runs]
        first: list[int] = []
        split: set[int] = set()
        for span in offsets:
            begin, end = _core(text, *span)
            here, there = bisect_right(starts, begin) - 1, bisect_right(starts, end) - 1
            first.append(here)
            if here != there:
                split.update((here, there))
        names = _names([role for _, role in runs])
        roles = [names[run] for run in first]
        places = [index - first.index(run) for index, run in enumerate(first)]
        if runs[first[-1]][1] is None:
            roles[-1], places[-1] = END, 0
        words = self._words(text, runs, first, ids, split)
        lead = len(self._start)
        return Spelled((*self._start, *ids), (BOS,) * lead + tuple(roles), (0,) * lead + tuple(places), words)

    def _words(
        self, text: str, runs: list[tuple[int, str | None]], first: list[int], ids: list[int], split: set[int]
    ) -> tuple[SpelledWord, ...]:
        ends = [start for start, _ in runs[1:]] + [len(text)]
        found = []
        for index, ((start, role), end) in enumerate(zip(runs, ends, strict=True)):
            if role is not None:
                own = tuple(token for token, run in zip(ids, first, strict=True) if run == index)
                found.append(SpelledWord(role, text[start:end].strip(), own, index not in split))
        return tuple(found)

    def ends(self, text: str) -> list[int]:
        """Where each token of `text` ends, in characters."""
        batch = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [end for _, end in batch["offset_mapping"]]

    def answers(self, texts: Sequence[str], answers: Sequence[str]) -> list[SpelledAnswer]:
        """Each answer as a continuation of its text."""
        different = list(dict.fromkeys(texts))
        before = dict(zip(different, self.ids(different), strict=True))
        after = self.ids([text + answer for text, answer in zip(texts, answers, strict=True)])
        return [_answer(before[text], new) for text, new in zip(texts, after, strict=True)]


def _answer(old: list[int], new: list[int]) -> SpelledAnswer:
    kept = next((place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return SpelledAnswer(tuple(new[kept:]), kept == len(old))


def _start(tokenizer: Any, bos: bool | None) -> tuple[int, ...]:
    """The special tokens that a prompt begins with: none or one."""
    if bos is False:
        return ()
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    usual = tokenizer("a")["input_ids"]
    lead = next((n for n in range(len(usual) - len(plain) + 1) if usual[n : n + len(plain)] == plain), None)
    if lead is None or lead > 1:
        raise UsageError(
            f"a tokenizer that begins a text with at most one special token expected, found {usual} for 'a'; "
            "use --no-bos (bos=False in Python)"
        )
    if lead == 0 and bos and tokenizer.bos_token_id is None:
        raise UsageError("BOS: a tokenizer with a BOS token expected, found none; use --no-bos (bos=False in Python)")
    return (int(tokenizer.bos_token_id),) if lead == 0 and bos else tuple(usual[:lead])


def _runs(pieces: tuple[Piece, ...]) -> list[tuple[int, str | None]]:
    """Where each run of text starts, and its role.

    Unnamed neighbours are one run. Blank text before a name belongs to the name: with most tokenizers it has no token
    of its own, and would number a gap that holds nothing.
    """
    merged: list[tuple[str, str | None]] = []
    for piece in pieces:
        text = piece.text
        if merged and merged[-1][1] is None and (piece.role is None or not merged[-1][0].strip()):
            text = merged.pop()[0] + text
        if text:
            merged.append((text, piece.role))
    starts = accumulate((len(text) for text, _ in merged), initial=0)
    return [(start, role) for start, (_, role) in zip(starts, merged, strict=False)]


def _names(roles: list[str | None]) -> list[str]:
    reserved = [role for role in roles if role is not None and _RESERVED.fullmatch(role)]
    if reserved:
        raise UsageError(
            f"role {reserved[0]!r}: a name that is not empty nor gap1, gap2, ... expected; rename the role"
        )
    gaps = iter(range(1, len(roles) + 1))
    return [role if role is not None else f"gap{next(gaps)}" for role in roles]


def _core(text: str, start: int, end: int) -> tuple[int, int]:
    """First and last character of a token that are no white space (of a blank token: its first, twice)."""
    covered = text[start:end]
    bare = covered.strip()
    if not bare:
        return (min(start, len(text) - 1),) * 2
    begin = start + covered.index(bare)
    return begin, begin + len(bare) - 1
