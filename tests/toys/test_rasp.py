"""The interpreter by hand: what each expression means, and what it refuses."""

import operator
from fractions import Fraction

import pytest

from gossamer.errors import UsageError
from gossamer.toys.rasp import (
    AmbiguousError,
    Linear,
    Map,
    Select,
    SequenceMap,
    aggregate,
    constant,
    evaluate,
    in_order,
    indices,
    selector_width,
    tokens,
)
from gossamer.toys.values import possible_values

BEFORE = Select(indices, indices, operator.lt)
SAME = Select(tokens, tokens, operator.eq)
IS_A = Map(lambda token: int(token == "a"), tokens, numerical=True, name="is_a")


def test_primitives_maps_and_constants():
    assert evaluate(tokens, "ab") == ["a", "b"]
    assert evaluate(indices, "ab") == [0, 1]
    assert evaluate(Map(str.upper, tokens), "ab") == ["A", "B"]
    assert evaluate(SequenceMap(lambda token, index: f"{token}{index}", tokens, indices), "ab") == ["a0", "b1"]
    assert evaluate(constant("x"), "ab") == ["x", "x"]
    assert evaluate(Linear(IS_A, IS_A, (3, -1)), "ab") == [2, 0]


def test_select_takes_key_then_query_and_may_be_causal():
    after = Select(indices, indices, operator.gt)
    assert evaluate(selector_width(BEFORE), "abc") == [0, 1, 2]
    assert evaluate(selector_width(after), "abc") == [2, 1, 0]
    assert evaluate(selector_width(after), "abc", causal=True) == [0, 0, 0]


def test_width_of_equal_tokens():
    assert evaluate(selector_width(SAME), "abac") == [2, 1, 2, 1]
    assert evaluate(selector_width(SAME), "abac", causal=True) == [1, 1, 2, 1]


def test_numerical_aggregate_is_a_mean_and_zero_of_nothing():
    assert evaluate(aggregate(BEFORE, IS_A), "aab") == [0, 1, 1]
    assert evaluate(aggregate(Select(indices, indices, operator.le), IS_A), "aba") == [
        1,
        Fraction(1, 2),
        Fraction(2, 3),
    ]


def test_categorical_aggregate_moves_values_and_none_of_nothing():
    previous = aggregate(Select(indices, indices, lambda key, query: key == query - 1), tokens)
    assert evaluate(previous, "abc") == [None, "a", "b"]
    assert evaluate(Map(str.upper, previous), "abc") == [None, "A", "B"]
    assert evaluate(SequenceMap(operator.add, previous, tokens), "abc") == [None, "ab", "bc"]
    assert evaluate(Map(lambda token: 1, previous, numerical=True), "abc") == [0, 1, 1]


def test_none_is_neither_selected_nor_selects():
    previous = aggregate(Select(indices, indices, lambda key, query: key == query - 1), tokens)
    everything = Select(previous, tokens, lambda key, query: True)
    assert evaluate(selector_width(everything), "abc") == [2, 2, 2]
    assert evaluate(selector_width(Select(tokens, previous, lambda key, query: True)), "abc") == [0, 3, 3]


def test_different_values_selected_are_refused():
    anything = aggregate(Select(tokens, tokens, lambda key, query: True), tokens, name="anything")
    assert evaluate(anything, "aa") == ["a", "a"]
    with pytest.raises(AmbiguousError, match="anything: one value expected at the selected positions, found a, b"):
        evaluate(anything, "ab")


def test_expressions_come_after_what_they_read_and_once():
    shared = Map(str.upper, tokens)
    found = in_order(SequenceMap(operator.add, shared, shared))
    assert found[:2] == [tokens, shared]
    assert len(found) == 3


@pytest.mark.parametrize(
    "expression",
    [
        Linear(tokens, IS_A),
        SequenceMap(operator.add, tokens, IS_A),
        selector_width(Select(tokens, IS_A, operator.eq)),
    ],
)
def test_variables_of_the_wrong_kind_are_refused(expression):
    with pytest.raises(UsageError, match="variables expected"):
        in_order(expression)


def test_possible_values_by_hand():
    share = aggregate(Select(indices, indices, operator.le), IS_A)
    width = selector_width(SAME)
    found = possible_values(SequenceMap(lambda n, t: n, width, Map(lambda x: x > 0, share)), "ab", 2)
    assert found[share] == (0, Fraction(1, 2), 1)
    assert sorted(found[width]) == [0, 1, 2]
    assert found[IS_A] == (0, 1)


def test_a_map_of_none_leaves_zero_possible_in_a_number():
    previous = aggregate(Select(indices, indices, lambda key, query: key == query - 1), tokens)
    one = Map(lambda token: 1, previous, numerical=True)
    assert possible_values(one, "ab", 2)[one] == (0, 1)


def test_too_many_values_are_refused():
    spread = Map(lambda index: 1000**index, indices, numerical=True)
    means = aggregate(BEFORE, spread, name="means")
    with pytest.raises(UsageError, match="Aggregate means: at most 4096 values expected, found more"):
        possible_values(means, "ab", 20)
