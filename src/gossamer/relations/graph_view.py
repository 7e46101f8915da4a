"""As much of a large graph as can be drawn: communities from far, latents from near, and counts of what is hidden."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.relations.graph import RelationGraph
from gossamer.relations.graph_layout import GraphLayout
from gossamer.relations.measures import Floats, Ints

MOST_NODES, MOST_EDGES, MOST_COMMUNITIES = 5_000, 20_000, 300
# With fewer communities than this in sight there is nothing to see of communities alone.
_FEW = 12
# Bundles of edges between communities, for each community that is drawn: more cannot be told apart.
_BUNDLES = 4
COLOURS = 12
Box = tuple[float, float, float, float]
Detail = Literal["auto", "communities", "latents"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class GraphView:
    """Which part of a graph is looked at.

    Attributes:
        threshold: edges of at least this similarity, and the latents that have one.
        box: left, bottom, right and top of what is in sight, of the unit square.
        community: this one alone; None: all.
        detail: "auto": latents where at most 5,000 are in sight, or few communities; else communities.
    """

    threshold: float = 0.0
    box: Box = (0.0, 0.0, 1.0, 1.0)
    community: int | None = None
    detail: Detail = "auto"

    def __post_init__(self) -> None:
        left, bottom, right, top = self.box
        if not (left < right and bottom < top):
            raise UsageError(f"graph: a box as left,bottom,right,top expected, found {','.join(map(str, self.box))}")


@dataclass(frozen=True, eq=False)
class GraphPart:
    """What is drawn of a view, in columns.

    Attributes:
        detail: whether nodes are "communities" or "latents".
        ids: nodes of the graph, or communities.
        x, y: their places.
        size: 1 to 255, by the number of latents, or by the sum of a latent's edges.
        colour: place in a palette of 12, by community.
        members: latents of each node that have an edge: 1 of a latent.
        edges: (edges, 2), ids of their upstream and downstream ends; of communities the lower number first.
        weight: similarity of each edge; between communities the sum of all edges of the pair.
        bundled: edges that each one stands for.
        counts: numbers of what there is and what is drawn, by name.
    """

    detail: Literal["communities", "latents"]
    ids: Ints
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    size: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    members: Ints
    edges: Ints
    weight: Floats
    bundled: Ints
    counts: dict[str, int]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.ids):,} {self.detail} of {self.counts['nodes']:,} in sight"
        yield plural(len(self.edges), "edge")


@dataclass(frozen=True, eq=False)
class DrawnGraph:
    """A graph with its layout, ready to answer views: the largest cost of an answer is one look at every edge.

    Memory: the graph and 48 bytes an edge more, once something was asked.

    Attributes:
        graph, layout: of the same nodes.
    """

    graph: RelationGraph
    layout: GraphLayout

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if len(self.graph) != len(self.layout.x):
            raise UsageError(f"layout: that of {self.graph} expected, found {self.layout}")

    def _facts(self) -> Iterator[str]:
        yield repr(self.graph)
        yield plural(len(self.layout.tiles), "community", "communities")

    @cached_property
    def _by_weight(self) -> tuple[Ints, Ints, Floats]:
        """Heads, tails and similarity of the edges, the strongest first."""
        order = np.argsort(-self.graph.similarity, kind="stable")
        return self.graph.heads[order], self.graph.tails[order], self.graph.similarity[order]

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints]:
        """Pairs of different communities that have edges, as a * communities + b with a < b, and the pair of each edge
        of `_by_weight`; -1 for one inside a community."""
        heads, tails, _ = self._by_weight
        ends = self.layout.labels[heads], self.layout.labels[tails]
        lower, upper = np.minimum(*ends), np.maximum(*ends)
        keys = np.where(lower < upper, lower * len(self.layout.tiles) + upper, -1)
        found, places = np.unique(keys, return_inverse=True)
        first = int(len(found) > 0 and found[0] == -1)
        return found[first:], places.reshape(-1) - first

    def at(self, view: GraphView) -> GraphPart:
        """The part of a view.

        Raises:
            UsageError: no such community.
        """
        layout, communities = self.layout, len(self.layout.tiles)
        if view.community is not None and not 0 <= view.community < communities:
            raise UsageError(f"community: 0 to {communities - 1} expected, found {view.community}")
        heads, tails, similarity = self._by_weight
        strong = int(np.searchsorted(-similarity, -view.threshold, side="right"))
        heads, tails, similarity = heads[:strong], tails[:strong], similarity[:strong]
        degree = np.bincount(heads, minlength=len(self.graph)) + np.bincount(tails, minlength=len(self.graph))
        chosen = degree > 0
        counts = {"all_nodes": int(chosen.sum()), "all_edges": strong, "all_communities": communities}
        if view.community is not None:
            chosen &= layout.labels == view.community
        left, bottom, right, top = view.box
        seen = chosen & (layout.x >= left) & (layout.x <= right) & (layout.y >= bottom) & (layout.y <= top)
        members = np.bincount(layout.labels[chosen], minlength=communities)
        near = (layout.tiles[:, 0] < right) & (layout.tiles[:, 2] > left)
        near &= (layout.tiles[:, 1] < top) & (layout.tiles[:, 3] > bottom) & (members > 0)
        if _shows_latents(view, int(seen.sum()), int(near.sum())):
            return self._latents(seen, heads, tails, similarity, counts)
        return self._communities(near, members, similarity, counts)

    def _latents(self, seen: Bools, heads: Ints, tails: Ints, similarity: Floats, counts: dict[str, int]) -> GraphPart:
        strength = np.bincount(heads, similarity, len(seen)) + np.bincount(tails, similarity, len(seen))
        ids = np.flatnonzero(seen)
        ids = np.sort(ids[np.argsort(-strength[ids], kind="stable")[:MOST_NODES]])
        drawn = np.zeros(len(seen), bool)
        drawn[ids] = True
        between = np.flatnonzero(drawn[heads] & drawn[tails])
        leading = int((drawn[heads] | drawn[tails]).sum()) - len(between)
        kept = between[:MOST_EDGES]
        counts |= {"nodes": int(seen.sum()), "edges": len(between), "edges_leading_away": leading}
        return GraphPart(
            "latents",
            ids,
            self.layout.x[ids],
            self.layout.y[ids],
            _sizes(np.sqrt(strength[ids])),
            (self.layout.labels[ids] % COLOURS).astype(np.uint8),
            np.ones(len(ids), np.int64),
            np.stack([heads[kept], tails[kept]], axis=1),
            similarity[kept],
            np.ones(len(kept), np.int64),
            counts,
        )

    def _communities(self, near: Bools, members: Ints, similarity: Floats, counts: dict[str, int]) -> GraphPart:
        ids = np.flatnonzero(near)
        ids = np.sort(ids[np.argsort(-members[ids], kind="stable")[:MOST_COMMUNITIES]])
        pairs, pair_of = self._pairs
        own = pair_of[: len(similarity)]
        outside = own >= 0
        bundled = np.bincount(own[outside], minlength=len(pairs))
        total = np.bincount(own[outside], similarity[outside], len(pairs))
        drawn = np.zeros(len(near), bool)
        drawn[ids] = True
        lower, upper = np.divmod(pairs, len(near))
        between = np.flatnonzero(drawn[lower] & drawn[upper] & (bundled > 0))
        kept = between[np.argsort(-total[between], kind="stable")[: _BUNDLES * len(ids)]]
        leading = int(bundled[(drawn[lower] | drawn[upper])].sum() - bundled[between].sum())
        counts |= {
            "nodes": int(near.sum()),
            "latents": int(members[near].sum()),
            "latents_drawn": int(members[ids].sum()),
            "edges": len(between),
            "edges_inside": int(len(similarity) - outside.sum()),
            "edges_leading_away": leading,
        }
        tiles = self.layout.tiles[ids]
        middles = ((tiles[:, :2] + tiles[:, 2:]) / 2).astype(np.float32)
        return GraphPart(
            "communities",
            ids,
            middles[:, 0],
            middles[:, 1],
            _sizes(np.sqrt(members[ids])),
            (ids % COLOURS).astype(np.uint8),
            members[ids],
            np.stack([lower[kept], upper[kept]], axis=1),
            np.asarray(total[kept], np.float64),
            bundled[kept],
            counts,
        )

    def partners(self, node: int, threshold: float = 0.0) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """The nodes that a node has edges from, and those that it has edges to, with the similarity, the strongest
        first."""
        graph = self.graph
        own = graph.edges_of(node)
        own = own[graph.similarity[own] >= threshold]
        own = own[np.argsort(-graph.similarity[own], kind="stable")]
        sides = []
        for here, there in ((graph.tails, graph.heads), (graph.heads, graph.tails)):
            mine = own[here[own] == node]
            sides.append(list(zip(there[mine].tolist(), graph.similarity[mine].tolist(), strict=True)))
        return sides[0], sides[1]


def _shows_latents(view: GraphView, nodes: int, communities: int) -> bool:
    if view.detail != "auto":
        return view.detail == "latents"
    return view.community is not None or nodes <= MOST_NODES or communities < _FEW


def _sizes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """In proportion to the largest, 1 to 255."""
    largest = max(float(values.max()), 1e-12) if len(values) else 1.0
    return np.clip(np.round(255 * values / largest), 1, 255).astype(np.uint8)
