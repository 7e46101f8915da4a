"""Communities as files have them: how many, how large, how stable, and who is in the largest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.relations.communities import Communities, community_words
from gossamer.relations.graph import RelationGraph
from gossamer.relations.measures import Ints
from gossamer.results.column import Column

_SIZES = 20
_NONE = Column.of((), "int32")


@dataclass(frozen=True)
class ListedCommunity:
    """One community.

    Attributes:
        size: its nodes; `layers`: names of the dictionaries that they are of.
        words: that most of its nodes (on a page, of those that are listed) share.
        dictionary: of the members that are listed, those with the strongest edges first, the place among the file's
            dictionaries; `latent`: their numbers there. Studies of before list none.
    """

    size: int
    layers: tuple[str, ...]
    words: tuple[str, ...]
    dictionary: Column = _NONE
    latent: Column = _NONE


@dataclass(frozen=True)
class CommunityFacts:
    """Communities of one graph by one method.

    Attributes:
        measure, threshold: of the edges; `nodes`, `edges`: of the graph.
        method, resolution, weighted, seeds: as of :class:`gossamer.relations.CommunitySettings`.
        communities: of the nodes; `alone`: of one node; `sizes`: of the largest 20.
        by_size: communities of 1, 2 to 3, 4 to 7, 8 to 15 ... nodes; `nodes_by_size`: nodes of these.
        stability, quality: over seeds, and modularity.
        labels: the largest communities of two nodes or more.
        chance: communities, stability and modularity of the graph with its edges drawn anew; None: it was not asked.
        left_out: pairs above the threshold that were not kept, and are no edges.
        isolated: latents of all dictionaries without an edge, of which `dead` are dead. A study says these three.
    """

    measure: str
    threshold: float
    method: str
    resolution: float
    weighted: bool
    nodes: int
    edges: int
    communities: int
    alone: int
    sizes: tuple[int, ...]
    by_size: tuple[int, ...]
    stability: float
    quality: float
    labels: tuple[ListedCommunity, ...]
    seeds: tuple[int, ...] = ()
    nodes_by_size: tuple[int, ...] = ()
    chance: tuple[float, float, float] | None = None
    left_out: int | None = None
    isolated: int | None = None
    dead: int | None = None


def community_facts(
    graph: RelationGraph,
    found: Communities,
    words: Mapping[int, Sequence[str]],
    places: Mapping[str, int],
    *,
    members: Sequence[Ints],
    count: int = 3,
) -> CommunityFacts:
    """What a file says of communities.

    Args:
        words: of nodes; a community's label is the `count` that most of its nodes have.
        places: of dictionaries in the file.
        members: of each community that is listed (:func:`listed_members`).
    """
    how, sizes, said = found.settings, found.sizes, community_words(found, words, count)
    listed = []
    for community, own in enumerate(members):
        sources = np.unique(graph.sources[found.members(community)])
        layers = tuple(graph.names[source] for source in sources.tolist())
        dictionary = np.array([places[graph.names[source]] for source in graph.sources[own].tolist()], np.int64)
        columns = (Column.of(dictionary, "int32"), Column.of(graph.latents[own], "int32"))
        listed.append(ListedCommunity(int(sizes[community]), layers, said.get(community, ()), *columns))
    return CommunityFacts(
        *(graph.measure, graph.threshold, how.method, how.resolution, how.weighted, len(graph), len(graph.heads)),
        **size_facts(sizes),
        stability=found.stability,
        quality=found.quality,
        labels=tuple(listed),
        seeds=how.seeds,
        chance=found.chance,
    )


def size_facts(sizes: Ints) -> dict[str, Any]:
    """The fields of :class:`CommunityFacts` that say how large communities are; from the largest one on."""
    octaves = np.log2(sizes).astype(np.int64)
    return {
        "communities": len(sizes),
        "alone": int((sizes == 1).sum()),
        "sizes": tuple(sizes[:_SIZES].tolist()),
        "by_size": tuple(np.bincount(octaves).tolist()),
        "nodes_by_size": tuple(np.bincount(octaves, sizes).astype(np.int64).tolist()),
    }


def listed_members(graph: RelationGraph, found: Communities, listed: int, members: int) -> list[Ints]:
    """Of the first `listed` communities of two nodes or more, the nodes whose edges add up to most, at most so many."""
    weights = np.r_[graph.similarity, graph.similarity]
    strength = np.bincount(np.r_[graph.heads, graph.tails], weights, minlength=len(graph))
    order = np.lexsort((-strength, found.labels))
    sizes = found.sizes
    starts = (np.cumsum(sizes) - sizes)[: int((sizes > 1)[:listed].sum())]
    return [order[start : start + min(size, members)] for start, size in zip(starts, sizes, strict=False)]
