"""Where a program's variables stand: labelled residual directions, and the sublayer that computes each variable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.toys.rasp import Aggregate, BosShare, Expression, Indices, Tokens, Value, in_order
from gossamer.toys.values import possible_values

BOS = "<bos>"
EMBEDDED = -1


@dataclass(frozen=True)
class Direction:
    """One labelled direction of the residual stream.

    Attributes:
        variable: name of the variable; `BOS` for the mark of the BOS token.
        value: the value it stands for; None for the one direction of a numerical variable, and for BOS.
    """

    variable: str
    value: Value = None

    @property
    def label(self) -> str:
        """``variable:value``, or the variable alone."""
        return self.variable if self.value is None else f"{self.variable}:{self.value}"


@dataclass(frozen=True, eq=False)
class Layout:
    """The variables of a program with their names, values, directions and sublayers.

    Sublayer 2l is the attention of layer l, 2l + 1 its MLP; tokens and indices are there from the embedding (-1).

    Attributes:
        program: the output.
        names: of each variable, in the order of their directions; unique.
        values: that each variable can take.
        sublayers: where each variable is computed: the first place after all that it reads.
    """

    program: Expression
    names: dict[Expression, str]
    values: dict[Expression, tuple[Any, ...]]
    sublayers: dict[Expression, int]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.program.name
        yield f"{plural(len(self.directions), 'direction')}, {plural(len(self.sublayers), 'variable')}"

    @classmethod
    def plan(cls, program: Expression, vocabulary: Sequence[Value], max_length: int) -> "Layout":
        """Lay out `program`.

        Raises:
            UsageError: as :func:`gossamer.toys.rasp.in_order` and :func:`gossamer.toys.values.possible_values`.
        """
        values = possible_values(program, vocabulary, max_length)
        sublayers: dict[Expression, int] = {}
        for node in in_order(program):
            before = max((sublayers[child] for child in node.children), default=EMBEDDED)
            sublayers[node] = _next(node, before)
        ordered = sorted(sublayers, key=lambda node: sublayers[node])
        return cls(program, _unique_names(ordered), values, {node: sublayers[node] for node in ordered})

    @property
    def n_layers(self) -> int:
        """Layers that the program needs, at least one."""
        return max(self.sublayers.values()) // 2 + 1 if max(self.sublayers.values()) >= 0 else 1

    @cached_property
    def directions(self) -> tuple[Direction, ...]:
        """All directions in order: the mark of BOS, then the variables by sublayer."""
        found = [Direction(BOS)]
        for node, name in self.names.items():
            found += [Direction(name)] if node.numerical else [Direction(name, value) for value in self.values[node]]
        return tuple(found)

    @cached_property
    def _places(self) -> dict[Direction, int]:
        return {direction: place for place, direction in enumerate(self.directions)}

    def place(self, node: Expression, value: Value = None) -> int:
        """Index of the direction of a numerical variable, or of one value of a categorical one."""
        return self._places[Direction(self.names[node], None if node.numerical else value)]

    def places(self, node: Expression) -> list[int]:
        """Indices of all directions of a variable."""
        return [self.place(node)] if node.numerical else [self.place(node, value) for value in self.values[node]]

    def at(self, sublayer: int) -> list[Expression]:
        """The variables computed there."""
        return [node for node, place in self.sublayers.items() if place == sublayer]

    def readers(self, node: Expression) -> dict[Expression | None, int]:
        """Who reads a variable, and in which sublayer; None, after all of them, stands for the head."""
        found: dict[Expression | None, int] = {
            other: place for other, place in self.sublayers.items() if node in other.children
        }
        return found | {None: 2 * self.n_layers} if node is self.program else found


def _next(node: Expression, before: int) -> int:
    """The first sublayer after `before` of the kind that the variable needs."""
    if isinstance(node, Tokens | Indices):
        return EMBEDDED
    attends = isinstance(node, Aggregate | BosShare)
    return before + 1 if (before % 2 == 1) == attends else before + 2


def _unique_names(nodes: Sequence[Expression]) -> dict[Expression, str]:
    names: dict[Expression, str] = {}
    taken: set[str] = {BOS}
    for node in nodes:
        stem = node.name or type(node).__name__.lower()
        if ":" in stem:
            raise UsageError(f"variable {stem!r}: a name without a colon expected; it separates variable and value")
        number, name = 1, stem
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        names[node] = name
        taken.add(name)
    return names
