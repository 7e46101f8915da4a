"""Which values a variable can take: what fixes the residual directions before any input is seen."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, product
from typing import Any

from gossamer.errors import UsageError
from gossamer.toys.rasp import (
    Aggregate,
    BosShare,
    Expression,
    Indices,
    Linear,
    Map,
    SequenceMap,
    TokenValues,
    Value,
    combined,
    in_order,
)

MOST_VALUES = 4096


def possible_values(
    program: Expression, vocabulary: Sequence[Value], max_length: int
) -> dict[Expression, tuple[Any, ...]]:
    """For each variable of `program` the values that it may take on inputs of up to `max_length` tokens.

    A superset: arguments are taken as independent. None is left out, numerical values are sorted.

    Raises:
        UsageError: a variable has more than MOST_VALUES values, or variables cannot be used as they are.
    """
    found: dict[Expression, tuple[Any, ...]] = {}
    for node in in_order(program):
        values = _distinct(node, _values(node, found, vocabulary, max_length))
        found[node] = tuple(sorted(values)) if node.numerical else tuple(values)
    return found


def _distinct(node: Expression, values: Iterable[Value]) -> list[Any]:
    """The values that have a direction, in the order in which they come."""
    # What is None elsewhere is 0 in a number; a map passes on the None of its argument.
    absent = Fraction(0) if node.numerical else None
    passed_on = [None] if isinstance(node, Map) and not node.of.numerical else []
    found: dict[Any, None] = {}
    for value in chain(values, passed_on):
        found.setdefault(absent if value is None else value)
        if len(found) > MOST_VALUES:
            raise UsageError(
                f"{type(node).__name__} {node.name}: at most {MOST_VALUES} values expected, found more; "
                "make max_length, the vocabulary or the program smaller"
            )
    return [value for value in found if value is not None]


def _values(
    node: Expression, known: dict[Expression, tuple[Any, ...]], vocabulary: Sequence[Value], max_length: int
) -> Iterable[Value]:
    match node:
        case TokenValues():
            return vocabulary
        case Indices():
            return range(max_length)
        case Map():
            return (node.function(value) for value in known[node.of])
        case SequenceMap():
            return (node.function(*pair) for pair in product(known[node.first], known[node.second]))
        case Linear():
            return (combined(node.weights, *pair) for pair in product(known[node.first], known[node.second]))
        case BosShare():
            return [Fraction(1, 1 + width) for width in range(max_length + 1)]
        case Aggregate(numerical=True):
            return _means(known[node.of], max_length)
        case Aggregate():
            return known[node.of]
    raise UsageError(f"{type(node).__name__}: an expression of gossamer.toys.rasp expected")


def _means(values: Sequence[Any], most: int) -> Iterator[Any]:
    """0, and the means of up to `most` of the values, with repetition."""
    sums = {Fraction(0)}
    yield Fraction(0)
    for count in range(1, most + 1):
        sums = {total + value for total in sums for value in values}
        yield from (total / count for total in sums)
