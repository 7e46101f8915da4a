"""Tokens and numbers as readers see them."""

import math

import pytest

from gossamer.report import text


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "␣the"),
        ("\n", "↵"),
        ("\t\r", "⇥␍"),
        ("   ", "␣␣␣"),
        ("a b", "a b"),
        ("a ", "a␣"),
        ("", "empty"),
        ("\x00", "\\x00"),
        ("\u200b\u202e", "\\u200b\\u202e"),
        ("\xa0", "\\xa0"),
        ("\ufffd", "\ufffd"),
        ("\ud800", "\\ud800"),
        ("\u0301", "◌\u0301"),
        ("é", "é"),
    ],
)
def test_no_token_is_invisible(token, shown):
    assert text.visible(token) == shown


def test_marks_are_told_from_text():
    assert text.pieces(" a\n") == (("␣", True), ("a", False), ("↵", True))
    assert text.pieces(" a", running=True) == ((" a", False),)
    assert text.visible("x" * 40, 5) == "xxxx…"


def test_wide_characters_take_two_cells():
    assert text.cells("中a\u0301") == 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (0.0, "0"),
        (1234.5, "1,234"),
        (-0.25, "−0.250"),
        (3.14159, "3.14"),
        (0.00321, "0.0032"),
        (2e-5, "<0.0001"),
        (-2e-5, ">−0.0001"),
        (6e-5, "0.0001"),
    ],
)
def test_numbers(value, shown):
    assert text.number(value) == shown


def test_shares_durations_and_counts():
    assert text.number(0.5, signed=True) == "+0.500"
    assert text.percent(0.951) == "95\u202f%"
    assert text.percent(0.0213) == "2.1\u202f%"
    assert text.percent(math.nan) == text.ratio(math.nan) == text.seconds(math.nan) == "–"
    assert [text.seconds(v) for v in (0.01, 12.34, 600.0, 36000.0)] == [
        "<\u202f0.1\u202fs",
        "12.3\u202fs",
        "10\u202fmin",
        "10.0\u202fh",
    ]
