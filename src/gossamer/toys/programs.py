"""Programs whose circuits are known, after the examples of Weiss et al. 2021 and Tracr.

Each function returns a RASP expression; `PROGRAMS` has one of each with a vocabulary that shows what it does. Numerical
outputs are fractions. Compiled with causal attention, length, histogram, shares, balances and patterns speak of the
input so far; the others then compute something else than their names say (reverse puts out the first token).
"""

import operator
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gossamer.errors import UsageError
from gossamer.toys.rasp import (
    Expression,
    Linear,
    Map,
    Select,
    SequenceMap,
    aggregate,
    indices,
    selector_width,
    tokens,
)


def _everything(key: object, query: object) -> bool:
    return True


def length() -> Expression:
    """Number of tokens, at every position."""
    return selector_width(Select(tokens, tokens, _everything), name="length")


def reverse() -> Expression:
    """The tokens in reverse order."""
    opposite = SequenceMap(lambda n, i: n - 1 - i if i < n else None, length(), indices, name="opposite")
    return aggregate(Select(indices, opposite, operator.eq), tokens, name="reverse")


def histogram() -> Expression:
    """How often the token at each position occurs."""
    return selector_width(Select(tokens, tokens, operator.eq), name="histogram")


def sort() -> Expression:
    """The tokens in ascending order."""
    return _sorted_by(tokens)


def sort_by_frequency() -> Expression:
    """The tokens, the most frequent first; equally frequent ones in the order in which they come."""
    return _sorted_by(Map(operator.neg, histogram(), name="rarity"))


def fraction_of_previous(token: Hashable) -> Expression:
    """Share of `token` among the tokens up to each position."""
    return aggregate(Select(indices, indices, operator.le), _is(token), name=f"share_of_{token}")


def pair_balance(opening: Hashable, closing: Hashable) -> Expression:
    """Share of `opening` minus share of `closing` among the tokens up to each position."""
    shares = (fraction_of_previous(opening), fraction_of_previous(closing))
    return Linear(*shares, (1, -1), name="balance")


def shuffle_dyck(pairs: Sequence[tuple[Hashable, Hashable]]) -> Expression:
    """Whether every kind of bracket is balanced by itself: never more closed than opened, and none open at the end.

    Faults are counted as numbers (shares of positions with a negative balance, and open ends), and True is no fault.

    Raises:
        UsageError: no pairs.
    """
    if not pairs:
        raise UsageError("shuffle_dyck: at least one pair of brackets expected, found none")
    final = Map(lambda n: n - 1, length(), name="final")
    last = Select(indices, final, operator.eq)
    faults = []
    for pair in pairs:
        balance = pair_balance(*pair)
        negative = Map(lambda share: int(share < 0), balance, numerical=True, name="negative")
        unequal = Map(lambda share: int(share != 0), balance, numerical=True, name="unequal")
        faults += [
            aggregate(Select(indices, indices, _everything), negative, name="went_negative"),
            aggregate(last, unequal, name="left_open"),
        ]
    return Map(lambda total: total == 0, _total(faults, "faults"), name="balanced")


def pattern_detection(pattern: Sequence[Hashable]) -> Expression:
    """Whether the tokens that end at each position are `pattern`.

    Raises:
        UsageError: an empty pattern.
    """
    if not pattern:
        raise UsageError("pattern_detection: a pattern of at least one token expected, found none")
    hits = [_shifted(back, _is(token)) for back, token in enumerate(reversed(pattern))]
    return Map(lambda total: total == len(pattern), _total(hits, "hits"), name="found")


def count_less_than(limit: int) -> Expression:
    """How many tokens of the input occur fewer than `limit` times, at every position."""
    counts = histogram()
    return selector_width(Select(counts, counts, lambda key, query: key < limit), name="rare")


def _sorted_by(keys: Expression) -> Expression:
    """The tokens by ascending key; equal keys keep their order, for pairs of key and index are never equal."""
    unique = SequenceMap(lambda key, index: (key, index), keys, indices, name="key")
    target = selector_width(Select(unique, unique, operator.lt), name="target")
    return aggregate(Select(target, indices, operator.eq), tokens, name="sorted")


def _is(token: Hashable) -> Expression:
    return Map(lambda found: int(found == token), tokens, numerical=True, name=f"is_{token}")


def _shifted(back: int, numbers: Expression) -> Expression:
    """The number `back` positions earlier, 0 where there is none."""
    if back == 0:
        return numbers
    return aggregate(Select(indices, indices, lambda key, query: key + back == query), numbers, name=f"back_{back}")


def _total(numbers: Sequence[Expression], name: str) -> Expression:
    total, *rest = numbers
    for number in rest:
        total = Linear(total, number, name=name)
    return total


@dataclass(frozen=True)
class Program:
    """A program to try: its expression is made anew by `build`."""

    build: Callable[[], Expression]
    vocabulary: tuple[Any, ...]


_LETTERS = ("a", "b", "c")
PROGRAMS: dict[str, Program] = {
    "length": Program(length, _LETTERS),
    "reverse": Program(reverse, _LETTERS),
    "histogram": Program(histogram, _LETTERS),
    "sort": Program(sort, _LETTERS),
    "sort_by_frequency": Program(sort_by_frequency, _LETTERS),
    "fraction_of_previous": Program(partial(fraction_of_previous, "a"), _LETTERS),
    "pair_balance": Program(partial(pair_balance, "(", ")"), ("(", ")", "a")),
    "shuffle_dyck": Program(partial(shuffle_dyck, [("(", ")"), ("{", "}")]), ("(", ")", "{", "}")),
    "pattern_detection": Program(partial(pattern_detection, "ab"), _LETTERS),
    "count_less_than": Program(partial(count_less_than, 2), _LETTERS),
}
