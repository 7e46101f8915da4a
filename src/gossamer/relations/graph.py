"""The layered graph of related features: its nodes and edges, quick to ask, and its files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.site import Site
from gossamer.relations.measures import Floats, Ints
from gossamer.relations.relation import Relation

# Above any number of a latent.
_WIDTH = 2**32
_LAYER = re.compile(r"[a-z_]+\.(\d+)")


@dataclass(frozen=True, eq=False)
class RelationGraph:
    """Latents as nodes, related pairs as directed edges from upstream to downstream.

    Nodes are the latents that have an edge. Memory: 16 bytes a node and 24 an edge; the
    indexes that questions are answered from, made when they are first needed, 24 a node and 32 an edge.

    Attributes:
        names: of the dictionaries, in the order of their layers.
        sources: which dictionary each node is of (a place in `names`); `latents`: its number there.
        heads, tails: the nodes that each edge goes from, and to.
        similarity: of each edge.
        measure, threshold: by which edges were chosen, and from which value on.
    """

    names: tuple[str, ...]
    sources: Ints
    latents: Ints
    heads: Ints
    tails: Ints
    similarity: Floats
    measure: str
    threshold: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self), 'node')}, {plural(len(self.heads), 'edge')}"
        yield f"{self.measure} from {self.threshold:g}"

    def __len__(self) -> int:
        return len(self.sources)

    @classmethod
    def of(cls, relations: Sequence[Relation], measure: str, threshold: float) -> "RelationGraph":
        """The kept pairs of some relations whose measure is at least `threshold`.

        Raises:
            UsageError: no relations, or the threshold is not above 0 or the measure not measured.
        """
        if not relations or not threshold > 0:
            raise UsageError(
                f"graph: relations and a threshold above 0 expected, found {len(relations)} and {threshold}"
            )
        names = tuple(dict.fromkeys(name for one in relations for name in one.pair))
        widths = {
            name: len(side.active)
            for one in relations
            for name, side in zip(one.pair, (one.upstream, one.downstream), strict=True)
        }
        starts = dict(zip(names, np.cumsum([0, *(widths[name] for name in names)]).tolist(), strict=False))
        ends, values = [], []
        for one in relations:
            found = one.values(measure)
            chosen = found >= threshold
            i, j = one.kept.i[chosen], one.kept.j[chosen]
            ends.append(np.stack([i + starts[one.pair.upstream], j + starts[one.pair.downstream]]))
            values.append(found[chosen])
        joined = np.concatenate(ends, axis=1)
        numbers, places = np.unique(joined, return_inverse=True)
        places = places.reshape(joined.shape).astype(np.int64)
        bounds = np.array(list(starts.values()))
        sources = np.searchsorted(bounds, numbers, side="right") - 1
        latents = numbers - bounds[sources] if len(numbers) else numbers
        return cls(names, sources, latents, places[0], places[1], np.concatenate(values), measure, threshold)

    @cached_property
    def ids(self) -> list[str]:
        """A name of each node: `l_feature`, layer and latent, where each layer has one dictionary; else `NAME_feature`.

        Two nodes never share one.
        """
        layers = [layer_of(name) for name in self.names]
        plain = len(set(layers)) == len(layers) and None not in layers
        heads = [str(layer) if plain else name for layer, name in zip(layers, self.names, strict=True)]
        return [
            f"{heads[source]}_{latent}"
            for source, latent in zip(self.sources.tolist(), self.latents.tolist(), strict=True)
        ]

    @cached_property
    def features(self) -> list[Feature]:
        """The latent of each node. Raises :class:`UsageError` where a dictionary is not named by its site alone."""
        sites = [Site.parse(name) for name in self.names]
        pairs = zip(self.sources.tolist(), self.latents.tolist(), strict=True)
        return [Feature(sites[source], latent) for source, latent in pairs]

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {name: node for node, name in enumerate(self.ids)}

    @cached_property
    def _adjacency(self) -> tuple[Ints, Ints]:
        """Edges sorted by their ends, each edge twice, and where each node's begin."""
        ends = np.concatenate([self.heads, self.tails])
        order = np.argsort(ends, kind="stable")
        return order % max(len(self.heads), 1), np.searchsorted(ends[order], np.arange(len(self) + 1))

    @cached_property
    def _by_source(self) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """Edges sorted by the dictionary they leave, and by that which they enter, the strongest first; where each
        dictionary's begin."""
        found = []
        for ends in (self.heads, self.tails):
            own = self.sources[ends]
            order = np.lexsort((-self.similarity, own))
            found.append((order, np.searchsorted(own[order], np.arange(len(self.names) + 1))))
        return found[0], found[1]

    @cached_property
    def _by_latent(self) -> tuple[Ints, Ints]:
        """Nodes sorted by dictionary and latent, and these two as one number."""
        keys = self.sources * _WIDTH + self.latents
        order = np.argsort(keys, kind="stable")
        return order, keys[order]

    def node(self, name: str) -> int:
        """Number of the node with this id.

        Raises:
            UsageError: there is none.
        """
        if name not in self._by_id:
            raise UsageError(f"graph: a node such as {self.ids[0] if len(self) else 'none'} expected, found {name!r}")
        return self._by_id[name]

    def edges_of(self, node: int) -> Ints:
        """Numbers of a node's edges, each way; from an index."""
        edges, starts = self._adjacency
        return edges[starts[node] : starts[node + 1]]

    def neighbours(self, node: int, threshold: float = 0.0) -> list[tuple[int, float]]:
        """The nodes that share an edge of at least `threshold` with a node, and its similarity, the largest first."""
        own = self.edges_of(node)
        own = own[self.similarity[own] >= threshold]
        own = own[np.argsort(-self.similarity[own], kind="stable")]
        others = np.where(self.heads[own] == node, self.tails[own], self.heads[own])
        return list(zip(others.tolist(), self.similarity[own].tolist(), strict=True))

    def layer(self, name: str) -> Ints:
        """The nodes of a dictionary.

        Raises:
            UsageError: it is not in the graph.
        """
        place = self._place(name)
        order, keys = self._by_latent
        first, last = np.searchsorted(keys, [place * _WIDTH, (place + 1) * _WIDTH])
        return np.sort(order[first:last])

    def layer_edges(self, name: str, threshold: float = 0.0) -> tuple[Ints, Ints]:
        """Numbers of the edges of at least `threshold` that leave a dictionary, and of those that enter it, the
        strongest first; from an index.

        Raises:
            UsageError: it is not in the graph.
        """
        place = self._place(name)
        found = []
        for order, starts in self._by_source:
            own = order[starts[place] : starts[place + 1]]
            found.append(own[: np.searchsorted(-self.similarity[own], -threshold, side="right")])
        return found[0], found[1]

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise UsageError(f"graph: one of {', '.join(self.names)} expected, found {name!r}")
        return self.names.index(name)

    def above(self, threshold: float) -> "RelationGraph":
        """The same nodes with the edges of at least `threshold` alone, without nodes that then have none."""
        edges = np.flatnonzero(self.similarity >= threshold)
        nodes = np.unique(np.concatenate([self.heads[edges], self.tails[edges]]))
        return self._part(nodes, edges, max(threshold, self.threshold))

    def lit_by(self, active: Mapping[str, Sequence[int]]) -> "RelationGraph":
        """The part that a prompt lights up: nodes that are among the active latents of their dictionary, and the edges
        between them; nodes without an edge stay."""
        order, keys = self._by_latent
        wanted = [
            place * _WIDTH + np.asarray(list(active.get(name, ())), np.int64) for place, name in enumerate(self.names)
        ]
        asked = np.unique(np.concatenate([np.zeros(0, np.int64), *wanted]))
        first, last = (np.searchsorted(keys, asked, side=side) for side in ("left", "right"))
        nodes = np.sort(order[first[first < last]])
        lit = np.zeros(len(self), bool)
        lit[nodes] = True
        by_node, starts = self._adjacency
        touching = [by_node[starts[node] : starts[node + 1]] for node in nodes.tolist()]
        edges = np.unique(np.concatenate([np.zeros(0, np.int64), *touching]))
        edges = edges[lit[self.heads[edges]] & lit[self.tails[edges]]]
        return self._part(nodes, edges, self.threshold)

    def _part(self, nodes: NDArray[Any], edges: NDArray[Any], threshold: float) -> "RelationGraph":
        heads, tails = (np.searchsorted(nodes, one[edges]) for one in (self.heads, self.tails))
        parts = (self.sources[nodes], self.latents[nodes], heads, tails, self.similarity[edges])
        return RelationGraph(self.names, *parts, self.measure, threshold)


def layer_of(name: str) -> int | None:
    """The layer in a dictionary's name; None where it names none."""
    found = _LAYER.match(name)
    return None if found is None else int(found[1])
