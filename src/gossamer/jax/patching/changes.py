"""The tree of a function with changes made to a copy; those of one place are made in the order they were asked for."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar, cast

from gossamer.jax.patching.errors import PatchError
from gossamer.jax.patching.pattern import Binding, Bindings, Rest, hole_of, rest_of
from gossamer.jax.patching.source import FunctionNode

TAG = "__gossamer_tag__"  # what `tag` is called in patched code: ends in underscores, so that no class mangles it
Node = TypeVar("Node", bound=ast.AST)
_POSITION = ("lineno", "col_offset", "end_lineno", "end_col_offset")


class ChangedPart(Enum):
    """What a change does to its nodes."""

    WRAP = "wrap"
    SWAP = "swap"
    BEFORE = "before"
    AFTER = "after"
    START = "start"


@dataclass(frozen=True)
class Change:
    """A change of one place.

    Attributes:
        part: what is done.
        nodes: the nodes of the original tree it is done to: an expression, or statements that follow each other.
        code: for all but WRAP, the code that is put in.
        bound: what its holes stand for.
        name: for WRAP, the name of the tag.
    """

    part: ChangedPart
    nodes: tuple[ast.AST, ...]
    code: Sequence[ast.stmt] = ()
    bound: Bindings = field(default_factory=dict)
    name: str = ""


def tag_call(name: str) -> str:
    """Code that tags the hole ``$it``."""
    return f"{TAG}({name!r}, $it)"


def called(code: list[ast.stmt]) -> list[ast.stmt]:
    """Code of a user with ``tag`` under the name that it has in patched functions."""
    for node in (node for statement in code for node in ast.walk(statement)):
        if isinstance(node, ast.Name) and node.id == "tag":
            node.id = TAG
    return code


def changed(function: FunctionNode, changes: Sequence[tuple[str, Change]]) -> FunctionNode:
    """A copy of the function with all changes, each given with the text of its edit. All refer to the original tree.

    Raises:
        PatchError: two replace the same code, or one lies in code that another replaces.
    """
    copier = _Copier(changes)
    result = copier.function(function)
    lost = [text for number, (text, _) in enumerate(changes) if number not in copier.done]
    if lost:
        raise PatchError(
            f"{lost[0]} lies inside code that another edit replaces: bind that code with a hole and keep it"
        )
    return result


class _Copier:
    """Copies a tree from the leaves up; what a hole stood for is copied with the changes that lie inside it."""

    def __init__(self, changes: Sequence[tuple[str, Change]]) -> None:
        self.done: set[int] = set()
        self._at: dict[tuple[ChangedPart, int], list[tuple[int, str, Change]]] = {}
        for number, (text, change) in enumerate(changes):
            node = change.nodes[-1] if change.part is ChangedPart.AFTER else change.nodes[0]
            self._at.setdefault((change.part, id(node)), []).append((number, text, change))

    def function(self, function: FunctionNode) -> FunctionNode:
        body = list(function.body)
        docstring = [body.pop(0)] if ast.get_docstring(function) is not None else []
        start = [made for change in self._take(ChangedPart.START, function) for made in self._insert(change, function)]
        made = self._copy(function)
        made.body = [*docstring, *start, *self._block(body)]
        return made

    def _take(self, part: ChangedPart, node: ast.AST) -> list[Change]:
        found = self._at.get((part, id(node)), [])
        if part is ChangedPart.SWAP and len(found) > 1:
            raise PatchError(f"{found[1][1]} replaces code that {found[0][1]} replaces too")
        self.done.update(number for number, _, _ in found)
        return [change for _, _, change in found]

    def _node(self, node: ast.AST) -> Any:
        swap = self._take(ChangedPart.SWAP, node) if isinstance(node, ast.expr) else []
        made = self._insert(swap[0], node)[0].value if swap else self._copy(node)  # type: ignore[attr-defined]
        for change in self._take(ChangedPart.WRAP, node):
            arguments: list[ast.expr] = [ast.Constant(change.name), cast(ast.expr, made)]
            made = _placed(ast.Call(ast.Name(TAG, ast.Load()), arguments, []), node)
        return made

    def _copy(self, node: Node) -> Node:
        made = type(node)(**{name: self._field(value) for name, value in ast.iter_fields(node)})
        return ast.copy_location(made, node)

    def _field(self, value: Any) -> Any:
        if isinstance(value, list):
            is_block = bool(value) and isinstance(value[0], ast.stmt)
            return self._block(value) if is_block else [self._field(item) for item in value]
        return self._node(value) if isinstance(value, ast.AST) else value

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        position = 0
        while position < len(statements):
            first = statements[position]
            made += [new for change in self._take(ChangedPart.BEFORE, first) for new in self._insert(change, first)]
            swap = self._take(ChangedPart.SWAP, first)
            made += self._insert(swap[0], first) if swap else [self._copy(first)]
            position += len(swap[0].nodes) if swap else 1
            last = statements[position - 1]
            made += [new for change in self._take(ChangedPart.AFTER, last) for new in self._insert(change, last)]
        return made

    def _insert(self, change: Change, at: ast.AST) -> list[ast.stmt]:
        """The code of a change with its holes filled, at the position of the original code."""
        return [self._fill(statement, change.bound, at) for statement in change.code]

    def _fill(self, node: ast.AST, bound: Bindings, at: ast.AST) -> Any:
        hole = hole_of(node)
        if hole is not None:
            return self._bound(bound[hole], node)
        made = type(node)(**{name: self._filled(value, bound, at) for name, value in ast.iter_fields(node)})
        if isinstance(made, ast.Call):
            rests = [bound[name] for name in map(rest_of, getattr(node, "args", ())) if name]
            made.keywords += [self._copy(word) for rest in rests if isinstance(rest, Rest) for word in rest.keywords]
        return _placed(made, at)

    def _filled(self, value: Any, bound: Bindings, at: ast.AST) -> Any:
        if isinstance(value, list):
            return [made for item in value for made in self._item(item, bound, at)]
        if isinstance(value, ast.AST):
            return self._fill(value, bound, at)
        hole = hole_of(value)
        return value if hole is None else _identifier(bound[hole])

    def _item(self, item: Any, bound: Bindings, at: ast.AST) -> list[Any]:
        rest = bound[name] if (name := rest_of(item)) is not None else None
        if isinstance(rest, Rest):
            is_block = bool(rest.items) and isinstance(rest.items[0], ast.stmt)
            return self._block(list(rest.items)) if is_block else [self._node(node) for node in rest.items]  # type: ignore[arg-type]
        return [self._filled(item, bound, at)]

    def _bound(self, value: Binding, hole: ast.AST) -> Any:
        """A copy of what a hole stands for, fit for the place where the hole is written."""
        if isinstance(value, Rest):
            raise PatchError("a $... of the code stands where one expression is expected")
        if isinstance(value, str):
            return ast.Name(value, getattr(hole, "ctx", ast.Load()))
        made = self._block([value])[0] if isinstance(value, ast.stmt) else self._node(value)
        if isinstance(hole, ast.Expr) and isinstance(made, ast.expr):
            return ast.copy_location(ast.Expr(made), made)
        _set_context(made, getattr(hole, "ctx", ast.Load()))
        return made


def _identifier(value: Binding) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, ast.Name):
        return value.id
    raise PatchError("a hole stands for an expression where the code needs a name")


def _set_context(node: ast.AST, context: ast.expr_context) -> None:
    """Reading, or assigning to, what a hole stood for: it may have stood on the other side."""
    if hasattr(node, "ctx"):
        node.ctx = context
    if isinstance(node, (ast.Tuple, ast.List)):
        for element in node.elts:
            _set_context(element, context)
    if isinstance(node, ast.Starred):
        _set_context(node.value, context)


def _placed(node: Node, at: ast.AST) -> Node:
    """A new node at the position of the code it belongs to, so that tracebacks show a line of the original file."""
    for name in _POSITION:
        if name in node._attributes and hasattr(at, name):
            setattr(node, name, getattr(at, name))
    return node
