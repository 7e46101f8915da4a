"""Every program against plain Python, and every compiled program against the interpreter, on all short inputs."""

from collections import Counter
from fractions import Fraction
from itertools import product

import pytest

from gossamer.errors import UsageError
from gossamer.toys import PROGRAMS, SHARP, SMOOTH, compile_program
from gossamer.toys.programs import pattern_detection, shuffle_dyck
from gossamer.toys.rasp import evaluate


def _balance(tokens):
    return [Fraction(tokens[: i + 1].count("(") - tokens[: i + 1].count(")"), i + 1) for i in range(len(tokens))]


def _balanced(tokens):
    for opening, closing in ("()", "{}"):
        depth = 0
        for token in tokens:
            depth += (token == opening) - (token == closing)
            if depth < 0:
                return False
        if depth:
            return False
    return True


REFERENCES = {
    "length": lambda s: [len(s)] * len(s),
    "reverse": lambda s: s[::-1],
    "histogram": lambda s: [s.count(token) for token in s],
    "sort": sorted,
    "sort_by_frequency": lambda s: sorted(s, key=lambda token: -s.count(token)),
    "fraction_of_previous": lambda s: [Fraction(s[: i + 1].count("a"), i + 1) for i in range(len(s))],
    "pair_balance": _balance,
    "shuffle_dyck": lambda s: [_balanced(s)] * len(s),
    "pattern_detection": lambda s: [s[max(0, i - 1) : i + 1] == ["a", "b"] for i in range(len(s))],
    "count_less_than": lambda s: [sum(count for count in Counter(s).values() if count < 2)] * len(s),
}
# These look backwards only, or count what is visible.
SO_FAR = ("length", "histogram", "fraction_of_previous", "pair_balance", "pattern_detection")


def _inputs(vocabulary):
    longest = 5 if len(vocabulary) < 4 else 4
    return [list(found) for n in range(1, longest + 1) for found in product(vocabulary, repeat=n)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreter_against_plain_python(name):
    program = PROGRAMS[name].build()
    for tokens in _inputs(PROGRAMS[name].vocabulary):
        assert evaluate(program, tokens) == REFERENCES[name](tokens), tokens


@pytest.mark.parametrize("name", SO_FAR)
def test_causal_interpreter_speaks_of_the_input_so_far(name):
    program = PROGRAMS[name].build()
    for tokens in _inputs(PROGRAMS[name].vocabulary):
        expected = [REFERENCES[name](tokens[: i + 1])[-1] for i in range(len(tokens))]
        assert evaluate(program, tokens, causal=True) == expected, tokens


@pytest.mark.parametrize("sharpness", [SHARP, SMOOTH], ids=["sharp", "smooth"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_equals_interpreted_on_all_short_inputs(name, causal, sharpness):
    inputs, vocabulary = _inputs(PROGRAMS[name].vocabulary), PROGRAMS[name].vocabulary
    compiled = compile_program(
        PROGRAMS[name].build(), vocabulary, max_length=len(inputs[-1]), causal=causal, sharpness=sharpness
    )
    assert compiled.run(inputs) == compiled.expected(inputs)


def test_empty_arguments_are_refused():
    with pytest.raises(UsageError, match="at least one pair"):
        shuffle_dyck([])
    with pytest.raises(UsageError, match="at least one token"):
        pattern_detection("")
