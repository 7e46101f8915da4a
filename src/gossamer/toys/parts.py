"""Attention heads and neurons that compute one variable each.

Everything that they write is zero at the BOS position (except :class:`BosShare`, which only MLPs read, and those are
shut there), so that BOS is a key of nothing but the constant query, as Tracr assumes of it too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.toys.layout import BOS, Direction, Layout
from gossamer.toys.rasp import Aggregate, BosShare, Expression, Linear, Map, SequenceMap, Value, is_selected

# BOS gets half a selected position's score, so that it takes all attention where nothing is selected.
_BOS_SCORE = 0.5
# Closest two values that a float32 network tells apart with margin.
_CLOSEST = 1e-4


@dataclass(frozen=True)
class Sharpness:
    """How close to steps the attention and the step functions of a compiled model are.

    Sharp models are exact to rounding, but have no gradients to speak of: attention is saturated and steps are flat
    wherever a program's own values lie, so that nothing that follows gradients (a mask search, attribution) can see
    what a head or a number is for. A smooth one computes the same outputs to about 1e-4 and has gradients.

    Attributes:
        coldness: score of a selected position; exp(-coldness / 2) of the attention leaks to BOS. Tracr's is 100.
        ramp: share of the distance between two numbers in which a step between them rises, in (0, 1].
    """

    coldness: float = 100.0
    ramp: float = 0.5

    def __post_init__(self) -> None:
        if self.coldness <= 0 or not 0 < self.ramp <= 1:
            raise UsageError(f"coldness above 0 and a ramp in (0, 1] expected, found {self.coldness} and {self.ramp}")


SHARP = Sharpness()
SMOOTH = Sharpness(coldness=20.0, ramp=1.0)


@dataclass(frozen=True)
class RaspHead:
    """Weights of one attention head, reading and writing all directions of the stream."""

    name: str
    q: Float[Tensor, "width direction"]
    q_bias: Float[Tensor, "width"]
    k: Float[Tensor, "width direction"]
    v: Float[Tensor, "value direction"]
    o: Float[Tensor, "direction value"]


@dataclass(frozen=True)
class Neurons:
    """Weights of some ReLU neurons."""

    read: Float[Tensor, "neuron direction"]
    bias: Float[Tensor, "neuron"]
    write: Float[Tensor, "direction neuron"]


def head(layout: Layout, node: Aggregate | BosShare, coldness: float) -> RaspHead:
    """The head of an aggregate or of a selector's width.

    Its scores are `coldness` for selected positions and 0 for others; BOS has half of it in an aggregate (an empty
    selection reads BOS, whose values are all zero) and all of it in a width (where it is what is counted).
    """
    selector, n = node.selector, len(layout.directions)
    keys, queries = layout.values[selector.keys], layout.values[selector.queries]
    width = len(keys) + 1
    q, k, bias = torch.zeros(width, n), torch.zeros(width, n), torch.zeros(width)
    for row, key in enumerate(keys):
        k[row, layout.place(selector.keys, key)] = 1.0
        for query in queries:
            q[row, layout.place(selector.queries, query)] = coldness * is_selected(selector, key, query)
    k[-1, 0] = 1.0
    bias[-1] = coldness * (_BOS_SCORE if isinstance(node, Aggregate) else 1.0)
    sources = layout.places(node.of) if isinstance(node, Aggregate) else [layout.directions.index(Direction(BOS))]
    targets = layout.places(node)
    v, o = torch.zeros(len(sources), n), torch.zeros(n, len(sources))
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        v[row, source] = o[target, row] = 1.0
    return RaspHead(layout.names[node], q, bias, k, v, o)


def neurons(layout: Layout, node: Expression, ramp: float) -> Neurons:
    """The neurons of an element-wise variable.

    Raises:
        UsageError: two numbers that have to be told apart are too close.
    """
    match node:
        case Map() if node.of.numerical:
            return _steps(layout, node, ramp)
        case Map():
            return _lookup(layout, node)
        case SequenceMap():
            return _pairs(layout, node)
        case Linear():
            return _linear(layout, node)
    raise UsageError(f"{type(node).__name__}: an element-wise expression expected")


def _lookup(layout: Layout, node: Map) -> Neurons:
    """relu(x:v) writes f(v)."""
    made = _Made(layout, node)
    for value in layout.values[node.of]:
        made.add({layout.place(node.of, value): 1.0}, 0.0, made.vector(node.function(value)))
    return made.neurons()


def _pairs(layout: Layout, node: SequenceMap) -> Neurons:
    """relu(x:v + y:w - 1) writes f(v, w)."""
    made = _Made(layout, node)
    for first in layout.values[node.first]:
        for second in layout.values[node.second]:
            read = {layout.place(node.first, first): 1.0}
            there = layout.place(node.second, second)
            read[there] = read.get(there, 0.0) + 1.0
            made.add(read, -1.0, made.vector(node.function(first, second)))
    return made.neurons()


def _linear(layout: Layout, node: Linear) -> Neurons:
    """relu(s) - relu(-s) of the weighted sum s."""
    made = _Made(layout, node)
    read: dict[int, float] = {}
    for child, weight in zip(node.children, node.weights, strict=True):
        read[layout.place(child)] = read.get(layout.place(child), 0.0) + weight
    one = made.vector(1)
    made.add(read, 0.0, one)
    made.add({place: -weight for place, weight in read.items()}, 0.0, -one)
    return made.neurons()


def _steps(layout: Layout, node: Map, ramp: float) -> Neurons:
    """f of a number: its value for the smallest, and a step to the next wherever f changes.

    A step halfway between two numbers is relu(u) - relu(u - 1) with u running from 0 to 1 over the middle `ramp` of the
    gap between them. At BOS u is pushed below 0 and the constant is shut.
    """
    made, place = _Made(layout, node), layout.place(node.of)
    values = layout.values[node.of]
    outputs = [node.function(value) for value in values]
    highest = max(float(values[-1]), 0.0)
    made.add({0: -1.0}, 1.0, made.vector(outputs[0]))
    for (below, before), (above, after) in pairwise(zip(values, outputs, strict=True)):
        if before == after:
            continue
        gap = float(above) - float(below)
        if gap < _CLOSEST:
            raise UsageError(f"{layout.names[node]}: {below} and {above} are too close to be told apart")
        slope, low = 1 / (ramp * gap), float(below) + gap * (1 - ramp) / 2
        shut = slope * (highest - low) + 1
        change = made.vector(after) - made.vector(before)
        for offset, sign in ((0.0, 1.0), (1.0, -1.0)):
            made.add({place: slope, 0: -shut}, -slope * low - offset, sign * change)
    return made.neurons()


class _Made:
    """Neurons of one variable as they are added."""

    def __init__(self, layout: Layout, node: Expression) -> None:
        self.n, self.vector = len(layout.directions), _writer(layout, node)
        self.rows: list[tuple[dict[int, float], float, Tensor]] = []

    def add(self, read: dict[int, float], bias: float, write: Tensor) -> None:
        """One neuron; none if it would write nothing."""
        if write.any():
            self.rows.append((read, bias, write))

    def neurons(self) -> Neurons:
        """All of them."""
        read, write = torch.zeros(len(self.rows), self.n), torch.zeros(self.n, len(self.rows))
        for row, (weights, _, vector) in enumerate(self.rows):
            write[:, row] = vector
            for place, weight in weights.items():
                read[row, place] = weight
        return Neurons(read, torch.tensor([bias for _, bias, _ in self.rows]), write)


def _writer(layout: Layout, node: Expression) -> Callable[[Any], Tensor]:
    """From a value of the variable to the vector that stands for it; None is the zero vector."""

    def vector(value: Value) -> Tensor:
        found = torch.zeros(len(layout.directions))
        if value is not None:
            found[layout.place(node, value)] = float(value) if node.numerical else 1.0  # type: ignore[arg-type]
        return found

    return vector
