"""Communities of related features over all layers: Leiden, Louvain and components, over seeds, with stability."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.files import needed
from gossamer.relations.graph import RelationGraph
from gossamer.relations.measures import Ints

METHODS = ("leiden", "cpm", "louvain", "components")


@dataclass(frozen=True)
class CommunitySettings:
    """How communities are found.

    Attributes:
        method: "leiden" (directed modularity), "cpm" (Leiden on the constant Potts model, Traag et al. 2011), "louvain"
            (modularity of the undirected graph) or "components" (weakly connected; no seed).
        resolution: of cpm: communities have at least this density of edges inside.
        weighted: whether the similarity of edges counts.
        seeds: runs whose agreement is the stability; the first is the result.
        tolerance: of leiden and cpm: passes over the graph go on until one gains less than this share of the quality;
            0: until one changes nothing, which on graphs of 100,000 edges takes dozens.
    """

    method: str = "leiden"
    resolution: float = 0.1
    weighted: bool = True
    seeds: tuple[int, ...] = (42, 43, 44)
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"communities: one of {', '.join(METHODS)} expected, found {self.method!r}")
        if not self.seeds or not self.resolution > 0 or not 0 <= self.tolerance < 1:
            raise UsageError(
                f"communities: a seed, a resolution above 0 and a tolerance from 0 to below 1 expected, found {self}"
            )


@dataclass(frozen=True, eq=False)
class Communities:
    """A partition of a graph's nodes.

    Attributes:
        labels: the community of each node, numbered from the largest.
        settings: how it was found.
        stability: mean adjusted Rand index of pairs of seeds, 1 for the same communities; 1 where there is one seed.
        quality: modularity (undirected, weighted as set) of the result.
        chance: communities, stability and modularity of the graph with its edges drawn anew (:func:`with_chance`).
    """

    labels: Ints
    settings: CommunitySettings
    stability: float
    quality: float
    chance: tuple[float, float, float] | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.sizes), 'community', 'communities')} by {self.settings.method}"
        yield f"stability {self.stability:.3f}"

    @property
    def sizes(self) -> Ints:
        """Nodes of each community, the largest first. Nodes without an edge are in no graph, so none is one alone but
        where a method cuts all its edges."""
        return np.bincount(self.labels).astype(np.int64)

    def members(self, community: int) -> Ints:
        """Nodes of a community."""
        return np.flatnonzero(self.labels == community)


def find_communities(graph: RelationGraph, settings: CommunitySettings | None = None) -> Communities:
    """Communities of a graph, the same for the same graph and seeds.

    Raises:
        UsageError: the graph has no edge, or igraph or leidenalg is missing (`pip install "gossamer[relations]"`).
    """
    settings = settings or CommunitySettings()
    if not len(graph.heads):
        raise UsageError("communities: a graph with edges expected, found none; lower its threshold")
    seeds = settings.seeds[:1] if settings.method == "components" else settings.seeds
    found = [_ranked(_partition(graph, settings, seed)) for seed in seeds]
    pairs = [adjusted_rand(one, other) for one, other in combinations(found, 2)]
    stability = float(np.mean(pairs)) if pairs else 1.0
    return Communities(found[0], settings, stability, _modularity(graph, found[0], settings))


def rewired(graph: RelationGraph, seed: int = 0) -> RelationGraph:
    """The graph by chance: its edges between the same dictionaries, with their downstream ends drawn anew.

    Every node keeps the numbers of its edges to each other dictionary; an edge may come twice. What communities such
    a graph seems to have, sparse graphs have by themselves.
    """
    draw = np.random.default_rng(seed)
    tails = graph.tails.copy()
    kinds = graph.sources[graph.heads] * len(graph.names) + graph.sources[graph.tails]
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        tails[own] = tails[draw.permutation(own)]
    return replace(graph, tails=tails)


def with_chance(graph: RelationGraph, found: Communities, seed: int = 0) -> Communities:
    """Communities of a graph with what the same settings find in it by chance (:func:`rewired`)."""
    random = find_communities(rewired(graph, seed), found.settings)
    return replace(found, chance=(float(len(random.sizes)), random.stability, random.quality))


def _partition(graph: RelationGraph, settings: CommunitySettings, seed: int) -> Ints:
    shape = (len(graph), len(graph))
    if settings.method == "components":
        links = sparse.csr_matrix((np.ones(len(graph.heads)), (graph.heads, graph.tails)), shape=shape)
        return connected_components(links, directed=True, connection="weak")[1].astype(np.int64)
    purpose = "communities (gossamer[relations])"
    igraph = needed("igraph", purpose)
    edges = list(zip(graph.heads.tolist(), graph.tails.tolist(), strict=True))
    made = igraph.Graph(n=len(graph), edges=edges, directed=settings.method != "louvain")
    weights = graph.similarity.tolist() if settings.weighted else None
    if settings.method == "louvain":
        return np.array(_louvain(igraph, made, weights, seed), np.int64)
    leiden = needed("leidenalg", purpose)
    kind = leiden.ModularityVertexPartition if settings.method == "leiden" else leiden.CPMVertexPartition
    options = {"resolution_parameter": settings.resolution} if settings.method == "cpm" else {}
    optimiser, found = leiden.Optimiser(), kind(made, weights=weights, **options)
    optimiser.set_rng_seed(seed)
    gain = 1.0
    while gain > 0 and gain >= settings.tolerance * abs(found.quality()):
        gain = optimiser.optimise_partition(found, n_iterations=1)
    return np.array(found.membership, np.int64)


def _louvain(igraph: Any, made: Any, weights: list[float] | None, seed: int) -> list[int]:
    """igraph draws from a generator of the whole process, which is Python's own again afterwards."""
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found: list[int] = made.community_multilevel(weights=weights).membership
    finally:
        igraph.set_random_number_generator(random)
    return found


def _ranked(labels: Ints) -> Ints:
    """The same communities, numbered from the largest; of equal ones, from that of the first node."""
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[inverse]


def adjusted_rand(one: Ints, other: Ints) -> float:
    """Agreement of two partitions beyond chance (Hubert and Arabie 1985): 1 for the same, 0 as expected by chance."""
    table = sparse.coo_matrix((np.ones(len(one)), (one, other))).tocsr()
    table.sum_duplicates()
    cells = _pairs(table.data).sum()
    rows, columns = (_pairs(np.asarray(table.sum(axis=axis)).reshape(-1)).sum() for axis in (1, 0))
    total = _pairs(np.array([float(len(one))]))[0]
    expected = rows * columns / total if total else 0.0
    largest = (rows + columns) / 2
    return 1.0 if largest == expected else float((cells - expected) / (largest - expected))


def _pairs(counts: Any) -> Any:
    return counts * (counts - 1) / 2


def _modularity(graph: RelationGraph, labels: Ints, settings: CommunitySettings) -> float:
    weights = graph.similarity if settings.weighted else np.ones(len(graph.heads))
    total = weights.sum()
    degrees = np.bincount(np.r_[graph.heads, graph.tails], np.r_[weights, weights], minlength=len(graph))
    inside = weights[labels[graph.heads] == labels[graph.tails]].sum() / total
    return float(inside - ((np.bincount(labels, degrees) / (2 * total)) ** 2).sum())


def community_words(
    communities: Communities, words: Mapping[int, Sequence[str]], count: int = 3
) -> dict[int, tuple[str, ...]]:
    """A label of each community: the words that most of its nodes share, of equal ones the first in the alphabet.

    Args:
        words: of nodes, such as the words that a latent promotes or the tokens it fires on; nodes may have none.
        count: words of a label.
    """
    found: dict[int, Counter[str]] = {}
    for node, own in words.items():
        # Bytes that are no character all look alike.
        told = [word for word in own if "\ufffd" not in word or word.strip(" \ufffd")]
        found.setdefault(int(communities.labels[node]), Counter()).update(dict.fromkeys(told, 1))
    return {
        community: tuple(word for word, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:count])
        for community, counts in sorted(found.items())
    }
