"""Patterns on the syntax tree: Python with holes. Formatting, comments and parentheses do not count.

``$x`` stands for any expression (or statement, where a statement stands, or name: ``self.$x``) and binds it; a second
``$x`` matches only an equal one. ``$_`` stands for anything and binds nothing. ``$...a`` stands for any number of
arguments, elements or statements; in a call it takes the other keywords too, wherever they stand. Keywords match by
name, in any order. Constants match by type and value: ``1`` is neither ``1.0`` nor ``True``.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from gossamer.jax.patching.errors import PatternError

_HOLE, _REST = "_gossamer_hole_", "_gossamer_rest_"
_TOKENS = re.compile(
    r"""(?P<text>'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\#[^\n]*)"""
    r"""|\$(?P<rest>\.\.\.)?(?P<name>[A-Za-z_]\w*)""",
    re.DOTALL,
)
# What the parser notes down but does not mean: the context of a name, u"" strings, comments on types.
_IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}


class Rest(NamedTuple):
    """What ``$...a`` stood for: positional arguments, elements or statements, and the keywords of a call."""

    items: tuple[ast.AST, ...]
    keywords: tuple[ast.keyword, ...] = ()


Binding = ast.AST | str | Rest
Bindings = dict[str, Binding]


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern: one expression, or one statement or more that stand one after the other.

    Attributes:
        text: as it was written.
        expression: the expression, or None for statements.
        statements: the statements; empty for an expression.
        names: the holes that bind, in no order.
    """

    text: str
    expression: ast.expr | None
    statements: tuple[ast.stmt, ...] = ()
    names: frozenset[str] = field(default=frozenset())

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern.

        Raises:
            PatternError: it is no Python, it is empty, or it is one hole and would match everything.
        """
        body = parse_code(text)
        names = frozenset(hole_names(body)) - {"_"}
        if any(hole_of(statement) or rest_of(statement) for statement in body):
            raise PatternError(
                f"a pattern of one hole, {text.strip()!r}, matches everything: write what stands around it"
            )
        if len(body) == 1 and isinstance(body[0], ast.Expr):
            return cls(text.strip(), body[0].value, (), names)
        return cls(text.strip(), None, tuple(body), names)

    def as_statement(self) -> "Pattern":
        """The pattern of an expression as that of a statement that is this expression alone."""
        assert self.expression is not None
        return replace(self, expression=None, statements=(ast.Expr(self.expression),))


def parse_code(text: str) -> list[ast.stmt]:
    """The statements of a piece of Python with holes, dedented.

    Raises:
        PatternError: it is no Python, or empty.
    """
    source = _TOKENS.sub(_placeholder, textwrap.dedent(text).strip())
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise PatternError(f"{text.strip()!r} is no Python: {error.msg} (line {error.lineno})") from None
    if not body:
        raise PatternError("an empty pattern or piece of code: expected an expression or statements")
    return body


def _placeholder(token: re.Match[str]) -> str:
    if token["text"] is not None:
        return token["text"]
    return (_REST if token["rest"] else _HOLE) + token["name"]


def hole_of(node: object) -> str | None:
    """The name of the hole that `node` is (a name, a statement of one name, or a plain identifier), else None."""
    return _marked(node, _HOLE)


def rest_of(node: object) -> str | None:
    """The name of the ``$...name`` that `node` is, else None."""
    return _marked(node, _REST)


def _marked(node: object, mark: str) -> str | None:
    if isinstance(node, ast.Expr):
        node = node.value
    if isinstance(node, ast.Name):
        node = node.id
    return node[len(mark) :] if isinstance(node, str) and node.startswith(mark) else None


def hole_names(nodes: list[ast.stmt]) -> Iterator[str]:
    """The names of all holes in `nodes`."""
    for node in (node for root in nodes for node in ast.walk(root)):
        for _, value in ast.iter_fields(node):
            name = hole_of(value) or rest_of(value) if isinstance(value, str) else None
            if name:
                yield name


def match(pattern: ast.AST, node: ast.AST) -> Bindings | None:
    """What the holes stand for if `node` fits `pattern`, else None."""
    return _node(pattern, node, {})


def match_statements(pattern: tuple[ast.stmt, ...], nodes: list[ast.stmt]) -> Bindings | None:
    """The same for statements that stand one after the other."""
    return _sequence(pattern, nodes, {})


def _value(pattern: object, value: object, bound: Bindings) -> Bindings | None:
    hole = hole_of(pattern)
    if hole is not None and isinstance(value, (ast.AST, str)):
        return _bind(hole, value, bound)
    if isinstance(pattern, ast.AST) and isinstance(value, ast.AST):
        return _node(pattern, value, bound)
    if isinstance(pattern, list) and isinstance(value, list):
        return _sequence(pattern, value, bound)
    return bound if type(pattern) is type(value) and pattern == value else None


def _node(pattern: ast.AST, node: ast.AST, bound: Bindings) -> Bindings | None:
    hole = hole_of(pattern)
    if hole is not None:
        return _bind(hole, node, bound)
    if type(pattern) is not type(node):
        return None
    if isinstance(pattern, ast.Call) and isinstance(node, ast.Call):
        return _call(pattern, node, bound)
    found: Bindings | None = bound
    for name, value in ast.iter_fields(pattern):
        if found is not None and name not in _IGNORED:
            found = _value(value, getattr(node, name, None), found)
    return found


def _call(pattern: ast.Call, node: ast.Call, bound: Bindings) -> Bindings | None:
    """Positional arguments in order, named ones by name; a rest among the arguments takes the other keywords."""
    found = _node(pattern.func, node.func, bound)
    given = list(node.keywords)
    for keyword in pattern.keywords:
        index = next((index for index, other in enumerate(given) if other.arg == keyword.arg), None)
        if found is None or index is None:
            return None
        found = _value(keyword.value, given.pop(index).value, found)
    rest = next((name for name in map(rest_of, pattern.args) if name), None)
    if found is None or (given and rest is None):
        return None
    return _sequence(pattern.args, node.args, found, tuple(given))


def _sequence(
    pattern: list | tuple, nodes: list, bound: Bindings, keywords: tuple[ast.keyword, ...] = ()
) -> Bindings | None:
    """Element by element; one rest takes what lies between those before and those after it."""
    rests = [index for index, item in enumerate(pattern) if rest_of(item) is not None]
    if len(rests) > 1:
        raise PatternError("two $... in one list of arguments, elements or statements: one can take any number")
    if not rests:
        return _each(pattern, nodes, bound) if len(pattern) == len(nodes) else None
    index, after = rests[0], len(pattern) - rests[0] - 1
    end = len(nodes) - after
    if end < index:
        return None
    found = _each(pattern[:index], nodes[:index], bound)
    found = found if found is None else _each(pattern[index + 1 :], nodes[end:], found)
    name = rest_of(pattern[index])
    return None if found is None or name is None else _bind(name, Rest(tuple(nodes[index:end]), keywords), found)


def _each(pattern: list | tuple, nodes: list, bound: Bindings) -> Bindings | None:
    found: Bindings | None = bound
    for item, node in zip(pattern, nodes, strict=True):
        found = None if found is None else _value(item, node, found)
    return found


def _bind(name: str, value: Binding, bound: Bindings) -> Bindings | None:
    if isinstance(value, ast.Starred):  # *args is no argument: a rest takes it, and a pattern can name it as *$x
        return None
    if name == "_":
        return bound
    if isinstance(value, ast.Expr):
        value = value.value
    if name in bound:
        return bound if same([bound[name], value]) else None
    return {**bound, name: value}


def same(values: list[Binding]) -> bool:
    """Whether bindings are equal as code; a name and the identifier of that name are."""
    return all(left == right for left, right in pairwise(map(_shown, values)))


def _shown(value: Binding) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Rest):
        return ", ".join(map(_shown, (*value.items, *value.keywords)))
    return ast.unparse(value)


def words(bound: Mapping[str, Binding]) -> dict[str, str]:
    """Bindings as text, for messages and tests."""
    return {name: _shown(value) for name, value in bound.items()}
