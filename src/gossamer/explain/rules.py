"""Rules: explanations that a program can follow, for people and language models to write as well.

A rule says on which tokens a feature is active, and how much. It prints and parses as a sentence:

    activates on " dog", " dogs" = 2.5 or on <digit> after " the" then <capitalised> = 1

`on`, `after` and `before` name the token itself, those right before it and the one right after it; `near` a token
anywhere before it in the text; `in the first N` the start of a document. "quoted" is a token as it is, a bare word a
token of that word whatever its case and spaces. See :mod:`gossamer.explain.grammar`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from gossamer.display import short_repr
from gossamer.explain.token_rows import TokenRows

# What a token can be, beside a word; in the grammar in angle brackets.
CLASSES: dict[str, Callable[[str], bool]] = {
    "any": lambda token: True,
    "capitalised": lambda token: token.strip()[:1].isupper(),
    "digit": lambda token: any(one.isdigit() for one in token),
    "newline": lambda token: "\n" in token,
    "punctuation": lambda token: bool(token.strip()) and not any(one.isalnum() for one in token),
    "space": lambda token: bool(token) and not token.strip(),
}
_WITH_TEXT = ("ends", "starts")
# Bits that say how a pattern, a clause and a number are meant.
_KIND_BITS, _NUMBER_BITS, _LETTER_BITS = 3.0, 8.0, 5.0


@dataclass(frozen=True, order=True)
class TokenPattern:
    """What one token can be.

    Attributes:
        kind: "token" (as it is), "word" (whatever its case and spaces), "ends", "starts", or one of `CLASSES`.
        text: of a token, a word, or an end or start of one.
    """

    kind: str
    text: str = ""

    __repr__ = short_repr

    def matches(self, token: str) -> bool:
        """Whether a token is that."""
        if self.kind == "token":
            return token == self.text
        plain = token.strip().lower()
        if self.kind == "word":
            return plain == self.text.strip().lower()
        if self.kind == "ends":
            return plain.endswith(self.text.lower())
        return plain.startswith(self.text.lower()) if self.kind == "starts" else CLASSES[self.kind](token)

    def bits(self, vocabulary: int) -> float:
        """Its length as a message to a reader who knows the vocabulary."""
        if self.kind in ("token", "word"):
            return _KIND_BITS + math.log2(vocabulary)
        return _KIND_BITS + _LETTER_BITS * (len(self.text) + 1 if self.kind in _WITH_TEXT else 0)


Patterns = tuple[TokenPattern, ...]
ANY: Patterns = (TokenPattern("any"),)


@dataclass(frozen=True)
class Clause:
    """One way in which a token can be meant; all that is said must hold.

    Attributes:
        on: what the token is, one of several.
        after: what the tokens right before it are, in reading order.
        before: what the token right after it is; () if nothing is said.
        near: what some token before it in the text is; () if nothing is said.
        first: it is one of so many first tokens of its document.
        value: the activation that is expected there.
    """

    on: Patterns = ANY
    after: tuple[Patterns, ...] = ()
    before: Patterns = ()
    near: Patterns = ()
    first: int | None = None
    value: float = 1.0

    __repr__ = short_repr

    def fires(self, rows: TokenRows) -> Bool[np.ndarray, "tokens"]:
        """At which tokens it holds."""
        found = _is(self.on, rows, rows.ids)
        for distance, patterns in enumerate(reversed(self.after), start=1):
            found &= _is(patterns, rows, rows.at(-distance))
        if self.before:
            found &= _is(self.before, rows, rows.at(1))
        if self.near:
            found &= _seen_before(_is(self.near, rows, rows.ids), rows)
        if self.first is not None:
            found &= rows.positions < self.first
        return found

    def bits(self, vocabulary: int) -> float:
        """Its length as a message."""
        lists = (self.on, *self.after, self.before, self.near)
        patterns = sum(pattern.bits(vocabulary) for several in lists for pattern in several)
        return _KIND_BITS + _NUMBER_BITS + patterns + (0.0 if self.first is None else _NUMBER_BITS)


@runtime_checkable
class Executable(Protocol):
    """An explanation that a program can follow."""

    def fires(self, rows: TokenRows) -> Bool[np.ndarray, "tokens"]:
        """At which tokens it says that the feature is active."""

    def expected(self, rows: TokenRows) -> Float[np.ndarray, "tokens"]:
        """The activation that it expects at every token."""

    def bits(self, vocabulary: int) -> float:
        """Its length as a message to a reader who knows the vocabulary."""


@dataclass(frozen=True)
class Rule:
    """Several ways in which a token can be meant; the first that holds says how much. Prints and parses.

    Attributes:
        clauses: none at all for a feature that is never active.
    """

    clauses: tuple[Clause, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """The rule that a sentence says.

        Raises:
            UsageError: it says none; the message has what was expected, and where.
        """
        from gossamer.explain.grammar import parse_rule

        return parse_rule(text)

    def __str__(self) -> str:
        from gossamer.explain.grammar import rule_text

        return rule_text(self)

    def fires(self, rows: TokenRows) -> Bool[np.ndarray, "tokens"]:
        """See :class:`Executable`."""
        return self.expected(rows) > 0

    def expected(self, rows: TokenRows) -> Float[np.ndarray, "tokens"]:
        """See :class:`Executable`."""
        found = np.zeros(len(rows.ids))
        for clause in reversed(self.clauses):
            found[clause.fires(rows)] = clause.value
        return found

    def bits(self, vocabulary: int) -> float:
        """See :class:`Executable`."""
        return _KIND_BITS + sum(clause.bits(vocabulary) for clause in self.clauses)


@dataclass(frozen=True)
class Term:
    """One summand of a weighted rule: a token at a place.

    Attributes:
        weight: added where it is there.
        token: as it is.
        offset: 0 the token itself, -1 the one before it; None anywhere in the text.
    """

    weight: float
    token: str
    offset: int | None = 0

    __repr__ = short_repr

    def holds(self, rows: TokenRows) -> Bool[np.ndarray, "tokens"]:
        """At which tokens it counts."""
        wanted = rows.index.get(self.token, -2)
        if self.offset is not None:
            return rows.at(self.offset) == wanted
        there = np.add.reduceat(rows.ids == wanted, rows.begins) > 0
        return np.repeat(there, np.diff(np.append(rows.begins, len(rows.ids))))


@dataclass(frozen=True)
class WeightedRule:
    """A logistic regression on a few tokens: it fires where the sum is above 0. Prints and parses.

    Attributes:
        bias: of the sum.
        terms: of the sum.
        value: the activation that is expected where it fires; elsewhere that times the odds' probability.
    """

    bias: float
    terms: tuple[Term, ...]
    value: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "WeightedRule":
        """The rule that a sentence says. Raises :class:`UsageError` if it says none."""
        from gossamer.explain.grammar import parse_weighted

        return parse_weighted(text)

    def __str__(self) -> str:
        from gossamer.explain.grammar import weighted_text

        return weighted_text(self)

    def sums(self, rows: TokenRows) -> Float[np.ndarray, "tokens"]:
        """Bias and weights at every token."""
        found = np.full(len(rows.ids), self.bias)
        for term in self.terms:
            found += term.weight * term.holds(rows)
        return found

    def fires(self, rows: TokenRows) -> Bool[np.ndarray, "tokens"]:
        """See :class:`Executable`."""
        return self.sums(rows) > 0

    def expected(self, rows: TokenRows) -> Float[np.ndarray, "tokens"]:
        """See :class:`Executable`."""
        return self.value / (1 + np.exp(-np.clip(self.sums(rows), -50, 50)))

    def bits(self, vocabulary: int) -> float:
        """See :class:`Executable`."""
        return _KIND_BITS + 2 * _NUMBER_BITS + len(self.terms) * (_KIND_BITS + _NUMBER_BITS + math.log2(vocabulary))


def _is(patterns: Patterns, rows: TokenRows, ids: Int[np.ndarray, "tokens"]) -> Bool[np.ndarray, "tokens"]:
    """Where the tokens are one of the patterns; no token (-1) is none of them."""
    # One place more, which -1 reads.
    known = np.zeros(len(rows.words) + 1, dtype=bool)
    for pattern in patterns:
        known[list(_ids_of(pattern, rows))] = True
    return known[ids]


def _ids_of(pattern: TokenPattern, rows: TokenRows) -> Iterator[int]:
    if pattern.kind == "token":
        if (found := rows.index.get(pattern.text)) is not None:
            yield found
        return
    yield from (number for number, word in enumerate(rows.words) if pattern.matches(word))


def _seen_before(there: Bool[np.ndarray, "tokens"], rows: TokenRows) -> Bool[np.ndarray, "tokens"]:
    """Whether some earlier token of the same text is one of those."""
    before = np.cumsum(there) - there
    return before - np.repeat(before[rows.begins], np.diff(np.append(rows.begins, len(there)))) > 0
