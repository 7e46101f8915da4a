"""Where a pattern fits in the body of a function."""

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from gossamer.jax.patching.errors import MatchError
from gossamer.jax.patching.pattern import Bindings, Pattern, match, match_statements
from gossamer.jax.patching.source import FunctionNode, FunctionSource

_NEAREST = 3
# Expressions that cannot stand alone, so that no call can be put around them.
_NO_VALUE = (ast.Starred, ast.Slice, ast.FormattedValue)


@dataclass(frozen=True)
class Place:
    """One match.

    Attributes:
        nodes: the expression, or the statements, of the function's own tree.
        statement: the innermost statement that the match begins in.
        bound: what the holes stand for.
    """

    nodes: tuple[ast.AST, ...]
    statement: ast.stmt
    bound: Bindings


def places(pattern: Pattern, function: FunctionNode) -> list[Place]:
    """All matches in the body, nested functions included."""
    return list(_expressions(pattern, function) if pattern.expression is not None else _runs(pattern, function))


def _expressions(pattern: Pattern, function: FunctionNode) -> Iterator[Place]:
    assert pattern.expression is not None
    for statement in statements(function):
        for node in values(statement):
            bound = match(pattern.expression, node)
            if bound is not None:
                yield Place((node,), statement, bound)


def _runs(pattern: Pattern, function: FunctionNode) -> Iterator[Place]:
    length = len(pattern.statements)
    for block in blocks(function):
        for start in range(len(block) - length + 1):
            run = block[start : start + length]
            bound = match_statements(pattern.statements, run)
            if bound is not None:
                yield Place(tuple(run), run[0], bound)


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements below `node`, its own first."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block:  # the body of a lambda or of `a if b else c` is one expression
            yield block
            for statement in block:
                yield from blocks(statement)
    for name in ("handlers", "cases"):
        for child in getattr(node, name, ()):
            yield from blocks(child)


def statements(function: FunctionNode) -> Iterator[ast.stmt]:
    """Every statement of the function, those of nested functions included."""
    for block in blocks(function):
        yield from block


def own_statements(function: FunctionNode) -> Iterator[ast.stmt]:
    """Every statement that runs as part of the function itself: none of a nested function or class."""
    nested = {
        id(inner)
        for statement in statements(function)
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        for block in blocks(statement)
        for inner in block
    }
    return (statement for statement in statements(function) if id(statement) not in nested)


def values(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions evaluated by a statement itself: no annotations, targets, case patterns or inner statements."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params", "format_spec"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (ast.stmt, ast.pattern)):
                continue
            if isinstance(child, (ast.excepthandler, ast.match_case)):
                yield from _head(child)
                continue
            if isinstance(child, ast.expr) and _is_value(child, node):
                yield child
            yield from values(child)


def _head(node: ast.excepthandler | ast.match_case) -> Iterator[ast.expr]:
    head = node.guard if isinstance(node, ast.match_case) else getattr(node, "type", None)
    if head is not None:
        yield head
        yield from values(head)


def _is_value(node: ast.expr, parent: ast.AST) -> bool:
    stored = not isinstance(getattr(node, "ctx", None), (ast.Load, type(None)))
    return not (stored or isinstance(node, _NO_VALUE) or isinstance(parent, ast.JoinedStr))


def chosen(
    places: Sequence[Place], source: FunctionSource, edit: str, wanted: str, count: int | None, index: int | None
) -> list[Place]:
    """The places an edit is for: the one at `index`, all if they are `count` (None: any number but 0).

    Raises:
        MatchError: with the places found, or the lines of the function nearest to `wanted`.
    """
    found = sorted(places, key=lambda place: attrgetter("lineno", "col_offset")(place.nodes[0]))
    if not found:
        raise MatchError(
            f"{edit} found no place in {source.name} ({source.where(source.node)}){nearest([source], wanted)}"
        )
    if index is not None:
        if not -len(found) <= index < len(found):
            raise MatchError(
                f"{edit} found {len(found)} in {source.name}, none at index={index}{_listed(found, source)}"
            )
        return [found[index]]
    if count is not None and len(found) != count:
        hint = f"pass index= to choose one, or count={len(found)}"
        raise MatchError(
            f"{edit} found {len(found)} places in {source.name}, expected {count}; {hint}{_listed(found, source)}"
        )
    return found


def _listed(found: Sequence[Place], source: FunctionSource) -> str:
    return "".join(f"\n    [{n}] {source.where(p.nodes[0])}: {source.line(p.nodes[0])}" for n, p in enumerate(found))


def nearest(sources: Sequence[FunctionSource], wanted: str) -> str:
    """The lines of functions most like `wanted`, as the tail of a message: what was asked for, and what there is."""
    text = wanted.replace("$...", "").replace("$", "")
    heads = {
        statement: (source, ast.unparse(statement).splitlines()[0])
        for source in sources
        for statement in statements(source.node)
    }

    def likeness(statement: ast.stmt) -> float:
        return difflib.SequenceMatcher(None, text, heads[statement][1]).ratio()

    best = sorted(sorted(heads, key=likeness, reverse=True)[:_NEAREST], key=attrgetter("lineno"))
    lines = "".join(f"\n    + {heads[one][0].where(one)}: {heads[one][1]}" for one in best)
    return f"; the pattern (-) and the nearest lines (+):\n    - {wanted}{lines}"
