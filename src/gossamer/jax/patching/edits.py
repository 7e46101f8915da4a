"""What to change in a function: tags on assignments, expressions, arguments and returns; code before, after, instead.

The functions here make an `Edit`; a `Patch` says which function it is for.
"""

import ast
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.jax.patching.changes import TAG, Change, ChangedPart, called, tag_call
from gossamer.jax.patching.errors import MatchError, PatternError
from gossamer.jax.patching.pattern import Pattern, hole_names, parse_code
from gossamer.jax.patching.search import Place, chosen, nearest, own_statements, places, statements, values
from gossamer.jax.patching.source import FunctionSource

_LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)


@dataclass(frozen=True)
class Edit(ABC):
    """One edit of a function.

    Attributes:
        text: how it was written, for messages.
        wanted: what it looks for, as source.
        count: how many places it must find (None: any number but none); every one is edited.
        index: edit this one of the places found, counted from 0 in the order of the source, whatever their number.
    """

    text: str
    wanted: str
    count: int | None
    index: int | None

    @abstractmethod
    def names(self) -> list[str]:
        """The names of the tags that it puts in."""

    @abstractmethod
    def fits(self, source: FunctionSource) -> int:
        """In how many places of this function it could be done."""

    @abstractmethod
    def changes(self, source: FunctionSource) -> list[Change]:
        """What it changes in this function.

        Raises:
            PatchError: it finds too few or too many places, or one where it cannot be done.
        """


class PlacedEdit(Edit):
    """An edit that looks for its places and does the same at each of those that are chosen."""

    def fits(self, source: FunctionSource) -> int:
        """See :class:`Edit`."""
        return len(self.places(source))

    def changes(self, source: FunctionSource) -> list[Change]:
        """See :class:`Edit`."""
        found = chosen(self.places(source), source, self.text, self.wanted, self.count, self.index)
        return [self.change(place, source) for place in found]

    @abstractmethod
    def places(self, source: FunctionSource) -> list[Place]:
        """All places in the function that it could be for."""

    @abstractmethod
    def change(self, place: Place, source: FunctionSource) -> Change:
        """What it does at one of them."""


@dataclass(frozen=True)
class TagAssign(PlacedEdit):
    name: str
    target: ast.expr

    def names(self) -> list[str]:
        return [self.name]

    def places(self, source: FunctionSource) -> list[Place]:
        wanted = ast.unparse(self.target)
        found = []
        for statement in statements(source.node):
            for target in _targets(statement):
                if ast.unparse(target) == wanted:
                    found.append(Place((target,), statement, {}))
            for node in values(statement):
                if isinstance(node, ast.NamedExpr) and ast.unparse(node.target) == wanted:
                    found.append(Place((node.value,), statement, {}))
        return found

    def change(self, place: Place, source: FunctionSource) -> Change:
        node, statement = place.nodes[0], place.statement
        if node not in _targets(statement):  # a walrus: its value
            return Change(ChangedPart.WRAP, (node,), name=self.name)
        whole = isinstance(statement, ast.Assign) and statement.targets == [node] and not isinstance(node, ast.Tuple)
        if (whole or isinstance(statement, ast.AnnAssign)) and statement.value is not None:  # type: ignore[attr-defined]
            return Change(ChangedPart.WRAP, (statement.value,), name=self.name)  # type: ignore[attr-defined]
        template = parse_code(f"$it = {tag_call(self.name)}")
        return Change(ChangedPart.AFTER, (statement,), template, {"it": node})


@dataclass(frozen=True)
class TagExpr(PlacedEdit):
    name: str
    pattern: Pattern

    def names(self) -> list[str]:
        return [self.name]

    def places(self, source: FunctionSource) -> list[Place]:
        return places(self.pattern, source.node)

    def change(self, place: Place, source: FunctionSource) -> Change:
        return Change(ChangedPart.WRAP, place.nodes, name=self.name)


@dataclass(frozen=True)
class TagReturn(PlacedEdit):
    name: str

    def names(self) -> list[str]:
        return [self.name]

    def places(self, source: FunctionSource) -> list[Place]:
        returns = [node for node in own_statements(source.node) if isinstance(node, ast.Return) and node.value]
        return [Place((node.value,), node, {}) for node in returns if node.value is not None]

    def change(self, place: Place, source: FunctionSource) -> Change:
        return Change(ChangedPart.WRAP, place.nodes, name=self.name)


@dataclass(frozen=True)
class TagArg(Edit):
    name: str
    argument: str

    def names(self) -> list[str]:
        return [self.name]

    def fits(self, source: FunctionSource) -> int:
        return int(self.argument in _arguments(source))

    def changes(self, source: FunctionSource) -> list[Change]:
        names = _arguments(source)
        if self.argument not in names:
            raise MatchError(f"{self.text}: {source.name} has no argument {self.argument!r}; it has {', '.join(names)}")
        name = ast.Name(self.argument, ast.Load())
        return [Change(ChangedPart.START, (source.node,), parse_code(f"$it = {tag_call(self.name)}"), {"it": name})]


@dataclass(frozen=True)
class Code(PlacedEdit):
    """Code before, after or instead of what a pattern finds."""

    part: ChangedPart
    pattern: Pattern
    code: Sequence[ast.stmt]

    def names(self) -> list[str]:
        return [
            str(node.args[0].value)
            for statement in self.code
            for node in ast.walk(statement)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == TAG
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ]

    def places(self, source: FunctionSource) -> list[Place]:
        return places(self.pattern, source.node)

    def change(self, place: Place, source: FunctionSource) -> Change:
        if self.part is ChangedPart.SWAP:
            return Change(self.part, place.nodes, self.code, place.bound)
        statement = place.statement if self.pattern.expression is not None else place.nodes[-1]
        at = place.statement if self.part is ChangedPart.BEFORE else statement
        self._require_reached(at, place, source)
        return Change(self.part, (at,), self.code, place.bound)

    def _require_reached(self, at: ast.AST, place: Place, source: FunctionSource) -> None:
        """The code must run when, and only when, what the pattern found runs."""
        inside = self.pattern.expression is not None
        header = inside and bool(getattr(at, "body", None))
        problem = None
        if self.part is ChangedPart.AFTER and isinstance(at, _LEAVES):
            problem = "code after it never runs; use before, replace or tag_return"
        elif self.part is ChangedPart.AFTER and header:
            problem = "it opens a block, and what comes after it is not clear; match the whole statement"
        elif header and isinstance(at, ast.While):
            problem = "it is evaluated at every turn of the loop; use replace or tag_expr"
        if problem:
            raise MatchError(f"{self.text} at {source.where(at)} ({source.line(at)}): {problem}")


def tag_assign(target: str, name: str, *, count: int | None = 1, index: int | None = None) -> Edit:
    """Tag a variable where it is assigned: ``x = tag(name, x)``. `target` is as on the left of the assignment.

    Tuples (``"q, k"`` as a whole, ``"k"`` as one of them), attributes, ``+=`` and ``:=`` count; in a loop header, no.
    """
    _require_name("tag_assign", name)
    parsed = Pattern.parse(target).expression
    if parsed is None:
        raise PatternError(f"tag_assign: {target!r} is no target; expected a variable such as 'logits'")
    return TagAssign(f"tag_assign({target!r}, {name!r})", f"{target} = ...", count, index, name, parsed)


def tag_expr(pattern: str, name: str, *, count: int | None = 1, index: int | None = None) -> Edit:
    """Tag the value of an expression: it becomes ``tag(name, expression)``."""
    _require_name("tag_expr", name)
    parsed = Pattern.parse(pattern)
    if parsed.expression is None:
        raise PatternError(f"tag_expr: {pattern!r} is a statement; use tag_assign, before, after or replace")
    return TagExpr(f"tag_expr({pattern!r}, {name!r})", parsed.text, count, index, name, parsed)


def tag_return(name: str, *, count: int | None = 1, index: int | None = None) -> Edit:
    """Tag what the function returns; ``return`` without a value and those of nested functions do not count."""
    _require_name("tag_return", name)
    return TagReturn(f"tag_return({name!r})", "return ...", count, index, name)


def tag_arg(argument: str, name: str) -> Edit:
    """Tag an argument on entry; ``*args`` and ``**kwargs`` by their bare name."""
    _require_name("tag_arg", name)
    return TagArg(f"tag_arg({argument!r}, {name!r})", argument, 1, None, name, argument)


def before(pattern: str, code: str, *, count: int | None = 1, index: int | None = None) -> Edit:
    """Run `code` before the statements of `pattern`, or before the statement that an expression stands in.

    In `code` the name ``tag`` is gossamer's, and holes stand for what they stood for in the pattern.
    """
    return _code("before", ChangedPart.BEFORE, pattern, code, count, index)


def after(pattern: str, code: str, *, count: int | None = 1, index: int | None = None) -> Edit:
    """Run `code` after the statements of `pattern`, or after the statement that an expression stands in."""
    return _code("after", ChangedPart.AFTER, pattern, code, count, index)


def replace(pattern: str, code: str, *, count: int | None = 1, index: int | None = None) -> Edit:
    """Put `code` in the place of what the pattern finds: an expression for an expression, statements for statements.

    The pairs (before, after) of mishax are this without holes.
    """
    return _code("replace", ChangedPart.SWAP, pattern, code, count, index)


def _code(verb: str, part: ChangedPart, pattern: str, code: str, count: int | None, index: int | None) -> Edit:
    parsed, body = Pattern.parse(pattern), called(parse_code(code))
    text = f"{verb}({parsed.text!r}, {code.strip()!r})"
    unbound = sorted(set(hole_names(body)) - parsed.names)
    if unbound:
        raise PatternError(f"{text}: ${unbound[0]} of the code is not in the pattern")
    wanted = parsed.text
    if (
        part is ChangedPart.SWAP
        and parsed.expression is not None
        and not (len(body) == 1 and isinstance(body[0], ast.Expr))
    ):
        # Statements can only take the place of a statement.
        parsed, wanted = parsed.as_statement(), f"{wanted} (as a statement by itself, since statements replace it)"
    return Code(text, wanted, count, index, part, parsed, body)


def _require_name(verb: str, name: str) -> None:
    if not isinstance(name, str) or not name:
        raise PatternError(f"{verb}: a tag needs a name, a text that is not empty, not {name!r}")


def shared_out(edit: Edit, sources: Sequence[FunctionSource]) -> list[Edit | None]:
    """For each method of a class, the part of an edit of that class that is done there.

    Raises:
        MatchError: it fits nowhere; or in several methods, and not in as many places as it should.
    """
    fits = [edit.fits(source) for source in sources]
    fitting = [f"{source.name} ({times})" for source, times in zip(sources, fits, strict=True) if times]
    if not fitting:
        names = ", ".join(source.name.rpartition(".")[2] for source in sources)
        raise MatchError(f"{edit.text} found no place in the methods {names}{nearest(sources, edit.wanted)}")
    if len(fitting) == 1:
        return [edit if times else None for times in fits]
    if edit.index is not None or edit.count not in (None, sum(fits)):
        raise MatchError(
            f"{edit.text} found places in several methods, {', '.join(fitting)}: name the method to patch, or pass "
            f"count={sum(fits)} for all of them"
        )
    return [dataclasses.replace(edit, count=times) if times else None for times in fits]


def _arguments(source: FunctionSource) -> list[str]:
    given = source.node.args
    ordered = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [argument.arg for argument in ordered if argument is not None]


def _targets(statement: ast.stmt) -> list[ast.expr]:
    """What a statement assigns, with the elements of tuples."""
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
    elif isinstance(statement, ast.AugAssign) or (isinstance(statement, ast.AnnAssign) and statement.value is not None):
        targets = [statement.target]
    else:
        return []
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            targets.extend(target.elts)
        elif isinstance(target, ast.Starred):
            targets.append(target.value)
    return targets
