"""The tokens around every token of a text, counted once for all features: pairs, triples, the tokens of a window."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped

from gossamer.display import short_repr
from gossamer.explain.token_rows import TokenRows

# Which tokens a pattern looks at, by their offsets from the token that it is about.
SHAPES: dict[str, tuple[int, ...]] = {
    "token": (0,),
    "pair": (-1, 0),
    "token before": (-1,),
    "triple": (-2, -1, 0),
    "pair with a gap": (-2, 0),
    "token after": (1,),
}


@dataclass(frozen=True, eq=False)
class Groups:
    """The tokens of a text by what stands at some offsets from them.

    Attributes:
        offsets: the offsets.
        keys: ids at the offsets, a row a group; -1 where the text ends.
        group: number of each token's group.
        sizes: tokens of each group.
    """

    offsets: tuple[int, ...]
    keys: Int[np.ndarray, "groups offsets"]
    group: Int[np.ndarray, "tokens"]
    sizes: Int[np.ndarray, "groups"]

    __repr__ = short_repr

    @classmethod
    def of(cls, rows: TokenRows, offsets: tuple[int, ...]) -> "Groups":
        """Group all tokens."""
        base = len(rows.words) + 1
        code = np.zeros(len(rows.ids), dtype=np.int64)
        for offset in offsets:
            code = code * base + rows.at(offset) + 1
        codes, group, sizes = np.unique(code, return_inverse=True, return_counts=True)
        keys = np.stack([codes // base**place % base - 1 for place in reversed(range(len(offsets)))], axis=1)
        return cls(offsets, keys, group, sizes)

    def sums(self, values: Shaped[np.ndarray, "tokens"]) -> Float[np.ndarray, "groups"]:
        """The sum of a value over each group."""
        return np.bincount(self.group, weights=values, minlength=len(self.sizes))


@dataclass(frozen=True, eq=False)
class FitText:
    """A text that rules are fitted on, with its groups; each is made when it is first asked for.

    Memory: 8 bytes a token and shape, 12 bytes a different token of a window.
    """

    rows: TokenRows

    __repr__ = short_repr

    @cached_property
    def groups(self) -> dict[str, Groups]:
        """By the names of `SHAPES`."""
        return {name: Groups.of(self.rows, offsets) for name, offsets in SHAPES.items()}

    @cached_property
    def offsets(self) -> dict[int, Int[np.ndarray, "tokens"]]:
        """Ids at offsets -4 to 0."""
        return {offset: self.rows.at(offset) for offset in range(-4, 1)}

    @cached_property
    def contents(self) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
        """Every (text, token) of which the text has the token: numbers of texts, from 0, and ids."""
        base = len(self.rows.words)
        codes = np.unique(self.text_numbers.astype(np.int64) * base + self.rows.ids)
        return codes // base, codes % base

    @cached_property
    def text_numbers(self) -> Int[np.ndarray, "tokens"]:
        """The text of each token, counted from 0."""
        begins = self.rows.begins
        return np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(self.rows.ids))))
