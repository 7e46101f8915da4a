"""Tokens of many texts laid end to end, which a rule reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from gossamer.display import plural, short_repr


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Tokens of several texts.

    Attributes:
        words: texts of tokens.
        ids: index into `words` of each token.
        texts: number of the text that each token stands in; equal numbers lie together.
        positions: each token's place in its document.
    """

    words: tuple[str, ...]
    ids: Int[np.ndarray, "tokens"]
    texts: Int[np.ndarray, "tokens"]
    positions: Int[np.ndarray, "tokens"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.ids), "token")

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], starts: Sequence[int] | None = None) -> "TokenRows":
        """From tokens in words, and the position at which each text begins in its document."""
        words: dict[str, int] = {}
        ids = [words.setdefault(token, len(words)) for text in texts for token in text]
        numbers = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        starts = [0] * len(texts) if starts is None else starts
        places = [start + place for start, text in zip(starts, texts, strict=True) for place in range(len(text))]
        return cls(tuple(words), np.array(ids, dtype=np.int32), numbers, np.array(places, dtype=np.int64))

    @cached_property
    def index(self) -> dict[str, int]:
        """The id of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def begins(self) -> Int[np.ndarray, "texts"]:
        """Where each text begins."""
        return np.flatnonzero(np.diff(self.texts, prepend=-1))

    def at(self, offset: int) -> Int[np.ndarray, "tokens"]:
        """The id of the token so many places later (negative: earlier) in the same text; -1 where it has none."""
        if offset == 0:
            return self.ids
        if offset not in self._shifted:
            self._shifted[offset] = self._shift(offset)
        return self._shifted[offset]

    @cached_property
    def _shifted(self) -> dict[int, Int[np.ndarray, "tokens"]]:
        """What `at` found: rules ask for the same few offsets again and again."""
        return {}

    def _shift(self, offset: int) -> Int[np.ndarray, "tokens"]:
        found = np.full(len(self.ids), -1, dtype=self.ids.dtype)
        if abs(offset) < len(self.ids):
            here, there = (slice(None, -offset), slice(offset, None))
            if offset < 0:
                here, there = slice(-offset, None), slice(None, offset)
            same = self.texts[here] == self.texts[there]
            found[here] = np.where(same, self.ids[there], -1)
        return found
