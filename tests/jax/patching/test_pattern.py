"""The pattern language: a table of what matches what, and what the holes then stand for."""

import ast

import pytest

pytest.importorskip("jax")

from gossamer.jax.patching.errors import PatternError
from gossamer.jax.patching.pattern import Pattern, match, match_statements, words

GOLDEN = [
    # pattern, code, holes (None: no match)
    ("f(x)", "f( x ,)  # a comment", {}),
    ("f(x)", "f(y)", None),
    ("(a + b)", "a+b", {}),
    ("a + b", "b + a", None),
    ("$x + b", "(a * c) + b", {"x": "a * c"}),
    ("$x + $x", "a[0] + a[0]", {"x": "a[0]"}),
    ("$x + $x", "a[0] + a[1]", None),
    ("$_ + $_", "a + b", {}),
    ("self.$name(x)", "self.query(x)", {"name": "query"}),
    ("self.$name($name)", "self.key(key)", {"name": "key"}),
    ("self.$name($name)", "self.key(value)", None),
    ("f($...a)", "f()", {"a": ""}),
    ("f($...a)", "f(1, *b, k=2, **c)", {"a": "1, *b, k=2, **c"}),
    ("f($x, $...a)", "f(1, 2, 3)", {"x": "1", "a": "2, 3"}),
    ("f($x, $...a)", "f()", None),
    ("f($...a, $x)", "f(1, 2, 3)", {"a": "1, 2", "x": "3"}),
    ("f($x, $..._, axis=$n)", "f(1, axis=-1, dtype=d)", {"x": "1", "n": "-1"}),
    ("f($x, axis=$n)", "f(1, axis=-1, dtype=d)", None),
    ("f(a=1, b=2)", "f(b=2, a=1)", {}),
    ("f(a=1)", "f(a=True)", None),
    ("f(1)", "f(1.0)", None),
    ("f($x)", "f(*a)", None),
    ("f(*$x)", "f(*a)", {"x": "a"}),
    ("f(**$x)", "f(**a, **b)", None),
    ("[$first, $...more]", "[1, 2, 3]", {"first": "1", "more": "2, 3"}),
    ("x[$i, ...]", "x[0, ...]", {"i": "0"}),
    ("f('$x')", "f('$x')", {}),
    ("f('$x')", "f('a')", None),
    ("jax.nn.softmax($...a).astype($_)", "jax.nn.softmax(x, axis=-1).astype(x.dtype)", {"a": "x, axis=-1"}),
    ("$y = f($x)", "out = f(1)", {"y": "out", "x": "1"}),
    ("$y = f($x)", "a = b = f(1)", None),
    ("x += $d", "x += 2", {"d": "2"}),
    ("x = $v", "x += 2", None),
    ("return $v", "return a, b", {"v": "(a, b)"}),
    ("return $v", "return", None),
    ("if $c:\n    $...body", "if a:\n    x = 1\n    y = 2", {"c": "a", "body": "x = 1, y = 2"}),
    ("if $c:\n    $_", "if a:\n    x = 1\n    y = 2", None),
    ("if $c:\n    $s", "if a:\n    f(x)", {"c": "a", "s": "f(x)"}),
    ("for $i in $xs:\n    $...b", "for a in b:\n    pass\nelse:\n    pass", None),
    ("x = $a\ny = $a", "x = 1\ny = 1", {"a": "1"}),
    ("x = $a\ny = $a", "x = 1\ny = 2", None),
    ("lambda $v: $v + 1", "lambda u: u + 1", {"v": "u"}),
]


@pytest.mark.parametrize(("pattern", "code", "holes"), GOLDEN)
def test_golden(pattern, code, holes):
    parsed = Pattern.parse(pattern)
    body = ast.parse(code).body
    if parsed.expression is not None:
        found = match(parsed.expression, body[0].value)
    else:
        found = match_statements(parsed.statements, body)
    assert (found if found is None else words(found)) == holes


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("$x", "matches everything"),
        ("x = 1\n$...rest", "matches everything"),
        ("f(", "no Python"),
        ("f($1)", "no Python"),
        ("", "empty"),
        ("# only a comment", "empty"),
    ],
)
def test_what_is_no_pattern(pattern, says):
    with pytest.raises(PatternError, match=says):
        Pattern.parse(pattern)


def test_two_rests_in_one_list_are_refused():
    with pytest.raises(PatternError, match=r"two \$\.\.\."):
        match(Pattern.parse("f($...a, $...b)").expression, ast.parse("f(1)").body[0].value)


def test_names_are_the_holes_that_bind():
    assert Pattern.parse("$x = f($_, $...a, k=$y)").names == {"x", "a", "y"}
