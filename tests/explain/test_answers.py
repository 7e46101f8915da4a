"""Answers of judges: what is read, what is refused, and that no failure is a zero."""

import pytest

from gossamer.chat.chat import Failure
from gossamer.explain.answers import (
    JudgeAnswer,
    classified,
    parse_booleans,
    parse_choices,
    parse_numbers,
    parse_texts,
)

READ = {
    "[1, 0, 1]": [True, False, True],
    "```json\n[1, 0, 1]\n```": [True, False, True],
    "Sure! Here is my answer: [1,0,1]. I hope it helps.": [True, False, True],
    '{"answer": [true, false, true]}': [True, False, True],
    "[1.0, 0.0, 1.0]": [True, False, True],
    '["yes", "no", "Yes"]': [True, False, True],
    "1: yes\n2: no\n3: yes": [True, False, True],
    "1. 1\n2. 0\n3. 1": [True, False, True],
    # A list in the reasoning that is no answer.
    "Texts [1] and [3] fit, so [1, 0, 1]": [True, False, True],
}
REFUSED = (
    "",
    "[1, 0]",
    "[1, 0, 1, 1]",
    "[1, 0, 2]",
    "[0.7, 0.2, 0.9]",
    "[1, 0, 1",
    "1: yes\n2: no",
    "1: yes\n3: no\n4: yes",
    "[1, 0, 1] or perhaps [0, 0, 1]",
    "[1, null, 1]",
    "I cannot answer.",
    "[[1, 0, 1]",
    "NaN",
)


@pytest.mark.parametrize("text", READ)
def test_lists_are_read(text):
    assert parse_booleans(text, 3) == READ[text]


@pytest.mark.parametrize("text", [one for one in REFUSED if one != "[[1, 0, 1]"])
def test_what_is_not_one_list_of_that_length_is_refused(text):
    assert parse_booleans(text, 3) is None


def test_a_short_last_prompt_is_read_by_its_own_length():
    assert parse_booleans("[1, 0]", 2) == [True, False]


def test_numbers():
    assert parse_numbers("[0, 10, 2.5]", 3) == [0, 10, 2.5]
    assert parse_numbers("[0, 10]", 3) is None
    assert parse_numbers("[0, true, 1]", 3) is None
    assert parse_numbers("[0, 1e999, 1]", 3) is None
    assert parse_numbers("[0, NaN, 1]", 3) is None


def test_texts():
    assert parse_texts('["a [b] c", "d"]') == ["a [b] c", "d"]
    assert parse_texts('Here they are:\n```json\n["a", "b"]\n```') == ["a", "b"]
    for text in ("[]", '["a", ""]', '["a", 1]', "1. a\n2. b", '["a", "b'):
        assert parse_texts(text) is None


def test_choices():
    assert parse_choices("1, 3", 3) == [True, False, True]
    assert parse_choices("None.", 3) == [False, False, False]
    assert parse_choices("4", 3) is None
    assert parse_choices("1, 1", 3) is None
    assert parse_choices("", 3) is None
    assert parse_choices("all of them", 3) is None


def answers(text):
    """y and n are answers, u and e failures."""
    made = {"y": JudgeAnswer(True), "n": JudgeAnswer(False), "u": JudgeAnswer(failure=Failure.UNPARSED)}
    return [made.get(one, JudgeAnswer(failure=Failure.ERROR)) for one in text]


def test_failures_are_counted_and_scored_as_nothing():
    truths = [True] * 5 + [False] * 5
    found = classified("x", truths, answers("yyyyu" + "nnnny"))
    assert (found.items.right, found.items.wrong, found.items.unparsed, found.items.error) == (8, 1, 1, 0)
    # Of 4 positives all, of 5 negatives 4; the failure is in neither.
    assert found.value == pytest.approx((1 + 0.8) / 2)
    assert found.items.failures == pytest.approx(0.1)
    assert (found.worst, found.best) == (pytest.approx((0.8 + 0.8) / 2), pytest.approx((1 + 0.8) / 2))


def test_above_a_fifth_of_failures_there_is_no_score():
    truths = [True] * 5 + [False] * 5
    found = classified("x", truths, answers("yyyue" + "nnnnu"))
    assert found.value is None
    assert (found.items.unparsed, found.items.error) == (2, 1)
    assert "30% of the items failed" in found.reason
    assert found.worst < found.best
    assert classified("x", truths, answers("yyyyu" + "nnnnu")).value == 1.0


def test_one_kind_of_items_is_no_score():
    assert classified("x", [True, True], answers("yn")).value is None
    assert classified("x", [], []).value is None


def test_probabilities_have_an_area_only_where_all_have_one():
    told = [JudgeAnswer(True, 0.9), JudgeAnswer(False, 0.2), JudgeAnswer(True, 0.6), JudgeAnswer(False, 0.1)]
    assert classified("x", [True, True, False, False], told).auroc.value == pytest.approx(0.75)
    assert classified("x", [True, True, False, False], [*told[:3], JudgeAnswer(False)]).auroc is None
