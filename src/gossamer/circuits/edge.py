"""What an edge of a circuit is, and what a test of edges says: plain numbers (:mod:`gossamer.circuits.edges`)."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.display import plural, short_repr
from gossamer.features.feature import Node
from gossamer.statistics import Interval


@dataclass(frozen=True)
class HeadShare:
    """What one attention head carried of an edge's weight, in the units of the weight."""

    layer: int
    head: int
    weight: float

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True)
class Edge:
    """Signed effect of a node on a later one, or on the metric (see :mod:`gossamer.circuits.edges`).

    Attributes:
        source: the node.
        target: another node, or the name of the task's metric.
        weight: the effect, in the units of the target.
        influence: what the edge carries on to the metric, in its units; None in files of before version 4.
        direct: the part of `weight` that no head carried, at one token; None in files of before version 4, whose
            weights count what attention patterns and norm scales would do as well.
        heads: the parts that heads carried, by the last head on the way, the largest first; with `direct` they sum to
            `weight`.
    """

    source: Node
    target: Node | str
    weight: float
    influence: float | None = None
    direct: float | None = None
    heads: tuple[HeadShare, ...] = ()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.source} -> {self.target}, {self.weight:.3g}"
        if self.heads:
            yield f"head {self.heads[0]}: {self.heads[0].weight:.3g}"


@dataclass(frozen=True)
class QKEdge:
    """What two nodes add together to a head's score, before the softmax (see :mod:`gossamer.attention.qk_edges`).

    Attributes:
        query, key: the node that is moved on the side of the query, and on that of the key.
        layer, head: the head.
        attends, attended: the role whose tokens it attends from ("answer": the token at which the metric is read), and
            the role that it attends to.
        weight: the share of the score.
    """

    query: Node
    key: Node
    layer: int
    head: int
    attends: str
    attended: str
    weight: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"head {self.layer}.{self.head}, {self.attends} to {self.attended}"
        yield f"{self.query} and {self.key}, {self.weight:.3g}"


@dataclass(frozen=True)
class EdgePoint:
    """Faithfulness of a circuit of which only some edges are kept, on held-out prompts.

    Attributes:
        edges: how many are kept.
        strongest: with those of the largest influence.
        random: with as many random ones, mean over `draws` sets of them.
        draws: faithfulness of each random set.
    """

    edges: int
    strongest: Interval
    random: Interval
    draws: tuple[float, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.edges, "edge")
        yield f"strongest {self.strongest.value:.3g}, random {self.random.value:.3g}"


@dataclass(frozen=True)
class EdgeTest:
    """How many edges carry what a circuit does (see :mod:`gossamer.circuits.evaluate.edge_curve`).

    Attributes:
        points: by rising number of edges, from one to all.
        measured_on, tested_on: training prompts that edges were measured on, held-out prompts that they are tested on.
        none, every: faithfulness of the empty circuit and of the circuit itself, on the same prompts: with no edge and
            with every edge.
    """

    points: tuple[EdgePoint, ...]
    measured_on: int
    tested_on: int
    none: Interval
    every: Interval

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        if self.points:
            yield plural(self.points[-1].edges, "edge")
        yield f"faithfulness {self.none.value:.3g} without, {self.every.value:.3g} with all"
