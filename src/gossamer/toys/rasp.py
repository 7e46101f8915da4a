"""RASP: sequence programs made of what a transformer can do (Weiss et al. 2021, arXiv 2106.06981).

An expression has one value at each position of an input. Element-wise maps become MLPs, selectors become attention
patterns, aggregates attention heads. As in Tracr (Lindner et al. 2023, arXiv 2301.05062) a variable is *categorical*
(any hashable values, one direction each) or *numerical* (one direction, the value its length along it), and an empty
selection gives what a zero vector stands for: None for a categorical variable, 0 for a numerical one. Maps are not
called on None: they pass it on.

The interpreter here is the meaning of a program; :func:`gossamer.toys.compile_program` makes the transformer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gossamer.display import short_repr
from gossamer.errors import GossamerError, UsageError

Value = Hashable | None
Predicate = Callable[[Any, Any], bool]


class AmbiguousError(GossamerError):
    """A categorical aggregate selected different values: their mean is no value."""


@dataclass(frozen=True, eq=False)
class Expression(ABC):
    """A variable with one value a position; two expressions are the same only if they are one object.

    Attributes:
        name: of its directions in the residual stream (a number is added where two have the same); "" takes one from
            the kind of expression.
        numerical: whether it is encoded as a number along one direction.
    """

    name: str = field(default="", kw_only=True)
    numerical: bool = field(default=False, kw_only=True)

    @property
    def children(self) -> tuple["Expression", ...]:
        """The expressions that it reads."""
        return ()

    @abstractmethod
    def value(self, run: "Interpreter", position: int) -> Value:
        """Its value at `position`."""


@dataclass(frozen=True, eq=False)
class Tokens(Expression):
    """The input."""

    def value(self, run: "Interpreter", position: int) -> Value:
        """The token."""
        return run.tokens[position]


@dataclass(frozen=True, eq=False)
class Indices(Expression):
    """Positions from 0 (BOS does not count)."""

    def value(self, run: "Interpreter", position: int) -> Value:
        """The position."""
        return position


tokens: Expression = Tokens(name="tokens")
indices: Expression = Indices(name="indices")


@dataclass(frozen=True, eq=False)
class Map(Expression):
    """`function` of one variable."""

    function: Callable[[Any], Any]
    of: Expression

    __repr__ = short_repr

    @property
    def children(self) -> tuple[Expression, ...]:
        """What is mapped."""
        return (self.of,)

    def value(self, run: "Interpreter", position: int) -> Value:
        """The function's value; None stays None."""
        found = run.read(self.of, position, self)
        return None if found is None else self.function(run.nearest(self.of, found))


@dataclass(frozen=True, eq=False)
class SequenceMap(Expression):
    """`function` of two categorical variables at the same position."""

    function: Callable[[Any, Any], Any]
    first: Expression
    second: Expression

    __repr__ = short_repr

    @property
    def children(self) -> tuple[Expression, ...]:
        """Both arguments."""
        return (self.first, self.second)

    def value(self, run: "Interpreter", position: int) -> Value:
        """The function's value; None if an argument is None."""
        first, second = (run.read(child, position, self) for child in self.children)
        return None if first is None or second is None else self.function(first, second)


@dataclass(frozen=True, eq=False)
class Linear(Expression):
    """``weights[0] * first + weights[1] * second`` of two numerical variables; itself numerical."""

    first: Expression
    second: Expression
    weights: tuple[int, int] = (1, 1)
    numerical: bool = field(default=True, kw_only=True)

    __repr__ = short_repr

    @property
    def children(self) -> tuple[Expression, ...]:
        """Both terms."""
        return (self.first, self.second)

    def value(self, run: "Interpreter", position: int) -> Value:
        """The weighted sum."""
        return combined(self.weights, run.read(self.first, position, self), run.read(self.second, position, self))


@dataclass(frozen=True, eq=False)
class Select:
    """Which positions (keys) each position (query) looks at: those with ``predicate(key, query)``.

    Both are categorical. A position whose key is None is never selected, a query that is None selects nothing.
    """

    keys: Expression
    queries: Expression
    predicate: Predicate

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class Aggregate(Expression):
    """The mean over the selected positions of a numerical variable, or the one value there of a categorical one."""

    selector: Select
    of: Expression

    __repr__ = short_repr

    @property
    def children(self) -> tuple[Expression, ...]:
        """Keys, queries and values."""
        return (self.selector.keys, self.selector.queries, self.of)

    def value(self, run: "Interpreter", position: int) -> Value:
        """Mean or value; 0 or None if nothing is selected.

        Raises:
            AmbiguousError: different categorical values are selected.
        """
        found = [run.read(self.of, there, self) for there in run.selected(self.selector, position, self)]
        if self.numerical:
            return mean(found)
        if len(set(found)) > 1:
            raise AmbiguousError(
                f"{self.name or 'aggregate'}: one value expected at the selected positions, found "
                f"{', '.join(map(str, found))}; make the selector narrower or the variable numerical"
            )
        return found[0] if found else None


@dataclass(frozen=True, eq=False)
class BosShare(Expression):
    """1 / (1 + number of selected positions): the attention that BOS gets when it is always attended to as well."""

    selector: Select
    numerical: bool = field(default=True, kw_only=True)

    __repr__ = short_repr

    @property
    def children(self) -> tuple[Expression, ...]:
        """Keys and queries."""
        return (self.selector.keys, self.selector.queries)

    def value(self, run: "Interpreter", position: int) -> Value:
        """The share."""
        return Fraction(1, 1 + sum(1 for _ in run.selected(self.selector, position, self)))


def selector_width(selector: Select, *, name: str = "") -> Expression:
    """Number of selected positions, categorical: an attention head (:class:`BosShare`) and an MLP that inverts it."""
    share = BosShare(selector, name=f"{name or 'width'}_share")
    return Map(lambda found: int(1 / found) - 1, share, name=name or "width")


def aggregate(selector: Select, of: Expression, *, name: str = "") -> Aggregate:
    """:class:`Aggregate`, numerical if `of` is."""
    return Aggregate(selector, of, name=name, numerical=of.numerical)


def constant(value: Value, *, numerical: bool = False, name: str = "constant") -> Expression:
    """The same value at every position."""
    return Map(lambda _: value, indices, name=name, numerical=numerical)


def is_selected(selector: Select, key: Value, query: Value) -> bool:
    """Whether a position with this key is selected by one with this query."""
    return key is not None and query is not None and bool(selector.predicate(key, query))


def combined(weights: tuple[int, int], first: Any, second: Any) -> Any:
    """The weighted sum of :class:`Linear`."""
    return weights[0] * first + weights[1] * second


def mean(values: Sequence[Any]) -> Any:
    """Exact mean of whole numbers and fractions; 0 of nothing."""
    total = sum(values)
    exact = isinstance(total, int | Fraction)
    return (Fraction(total, len(values)) if exact else total / len(values)) if values else Fraction(0)


@dataclass(frozen=True, eq=False)
class Removal:
    """A value taken away from a variable at one position, as some of its readers see it.

    Attributes:
        variable, position, value: what is removed, if the variable has that value there.
        readers: who finds nothing there; None in it stands for whoever reads the program's output.
        domains: the values of each numerical variable: a map of a number that a removal made impossible is that of the
            nearest one.
    """

    variable: Expression
    position: int
    value: Value
    readers: frozenset[Expression | None]
    domains: Mapping[Expression, Sequence[Any]] = field(default_factory=dict)

    __repr__ = short_repr


class Interpreter:
    """Values of expressions on one input, worked out when they are asked for."""

    def __init__(self, tokens: Sequence[Value], *, causal: bool = False, removal: Removal | None = None) -> None:
        """`causal`: a position selects itself and earlier ones only. `removal`: an intervention."""
        self.tokens, self.causal, self.removal = tuple(tokens), causal, removal
        self._known: dict[tuple[Expression, int], Value] = {}

    def read(self, expression: Expression, position: int, reader: Expression | None = None) -> Value:
        """The value as `reader` finds it (None: the program's output); a numerical None is 0."""
        if (expression, position) not in self._known:
            self._known[expression, position] = expression.value(self, position)
        value = self._known[expression, position]
        if self.removal is not None and self._removed(self.removal, expression, position, reader, value):
            value = None
        return Fraction(0) if value is None and expression.numerical else value

    def selected(self, selector: Select, position: int, reader: Expression) -> Iterator[int]:
        """Positions that `position` selects."""
        query = self.read(selector.queries, position, reader)
        for there in range(position + 1 if self.causal else len(self.tokens)):
            if is_selected(selector, self.read(selector.keys, there, reader), query):
                yield there

    def nearest(self, expression: Expression, value: Any) -> Any:
        """The possible value nearest to a number (see :class:`Removal`); any other value as it is."""
        if not expression.numerical or self.removal is None or expression not in self.removal.domains:
            return value
        return min(self.removal.domains[expression], key=lambda known: abs(known - value))

    @staticmethod
    def _removed(
        removal: Removal, expression: Expression, position: int, reader: Expression | None, value: Value
    ) -> bool:
        here = expression is removal.variable and position == removal.position and reader in removal.readers
        return here and value == removal.value


def evaluate(expression: Expression, inputs: Sequence[Value], *, causal: bool = False) -> list[Value]:
    """The program's value at every position of `inputs`; fractions are exact.

    Raises:
        AmbiguousError: a categorical aggregate selects different values.
    """
    run = Interpreter(inputs, causal=causal)
    return [run.read(expression, position) for position in range(len(inputs))]


def in_order(expression: Expression) -> list[Expression]:
    """The expression and all that it depends on, each once, after those that it reads.

    Raises:
        UsageError: a variable is of a kind (categorical or numerical) that its reader cannot use.
    """
    found: dict[Expression, None] = {}

    def visit(node: Expression) -> None:
        if node not in found:
            _check_kinds(node)
            for child in node.children:
                visit(child)
            found[node] = None

    visit(expression)
    return list(found)


def _check_kinds(node: Expression) -> None:
    what = f"{type(node).__name__} {node.name}".strip()
    if isinstance(node, Linear):
        if not (node.first.numerical and node.second.numerical and node.numerical):
            raise UsageError(f"{what}: numerical variables expected; make them numerical or use SequenceMap")
        return
    if isinstance(node, Aggregate) and node.of.numerical != node.numerical:
        raise UsageError(f"{what}: expected to be numerical as its values are, or neither; use aggregate()")
    categorical = node.children if isinstance(node, SequenceMap) else ()
    if isinstance(node, Aggregate | BosShare):
        categorical = (node.selector.keys, node.selector.queries)
    for child in categorical:
        if child.numerical:
            raise UsageError(
                f"{what}: categorical variables expected, found numerical {child.name}; Map it to a categorical one"
            )
