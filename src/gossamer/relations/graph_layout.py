"""Where the nodes of a graph are drawn: communities as the tiles of a square, each a small layered graph of its own.

Tiles: the largest communities are laid out by forces (Fruchterman and Reingold 1991) on the edges between them; the
others stand where the communities that they have edges with do. The square is then halved again and again along its
longer side, half of the latents each way by those places: tiles of an area in proportion to their latents, which do
not overlap. In a tile the dictionaries lie one above the other, the first at the bottom, and the latents of each are in
the order of the mean place of what they have edges with (the barycentre method of Sugiyama et al. 1981).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.relations.graph import RelationGraph
from gossamer.relations.measures import Floats, Ints
from gossamer.relations.storage import read_tensors
from gossamer.tensor_files import write_tensors

FORMAT = "gossamer.graph_layout.1"
Places = NDArray[np.float32]
# Communities that forces lay out: each step looks at all pairs of them.
_BY_FORCES, _STEPS = 300, 120
_SWEEPS = 8
# Of a tile's side, left free between it and its neighbours.
_MARGIN = 0.06


@dataclass(frozen=True, eq=False)
class GraphLayout:
    """A place in the unit square for every node of a graph, and a tile for every community.

    Attributes:
        x, y: of each node, y upwards.
        labels: the community of each node.
        tiles: (communities, 4): left, bottom, right and top of each. They do not overlap and fill the square.
    """

    x: Places
    y: Places
    labels: Ints
    tiles: Places

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.x), "node")
        yield plural(len(self.tiles), "community", "communities")

    def save(self, path: str | Path) -> Path:
        """Write it, atomically. Returns the path. Errors: those of :func:`gossamer.relations.save_relation`."""
        columns = {name: torch.from_numpy(getattr(self, name)) for name in ("x", "y", "labels", "tiles")}
        write_tensors(Path(path), columns, {"format": FORMAT})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "GraphLayout":
        """Read a saved one.

        Raises:
            UsageError: no such file, or another kind of file.
            GossamerError: it is damaged.
        """
        said, columns = read_tensors(path, "graph's layout")
        if said.get("format") != FORMAT:
            raise UsageError(f"{path}: a graph's layout (format {FORMAT!r}) expected, found {said.get('format')!r}")
        try:
            return cls(*(columns[name].numpy() for name in ("x", "y", "labels", "tiles")))
        except KeyError as error:
            raise GossamerError(f"{path}: a graph's layout expected, found damage (no {error}); delete it") from error


def layout_graph(graph: RelationGraph, labels: Ints, seed: int = 0) -> GraphLayout:
    """Lay out a graph, the same for the same graph, communities and seed.

    Time and memory: those of sorting the edges a few times, and of 300 x 300 numbers; 100,000 nodes with 500,000 edges
    take some seconds.

    Args:
        graph: what to draw.
        labels: the community of each node, from 0 (:func:`gossamer.relations.find_communities`).
        seed: of the first places of communities.

    Raises:
        UsageError: not one community for each node.
    """
    if len(labels) != len(graph):
        raise UsageError(f"layout: a community for each of {len(graph)} nodes expected, found {len(labels)}")
    sizes = np.bincount(labels)
    tiles = _tiles(_community_places(graph, labels, len(sizes), seed), sizes.astype(float))
    order, across = _rows(graph, labels)
    x, y = _in_tiles(graph, labels, tiles, sizes, order, across)
    return GraphLayout(x.astype(np.float32), y.astype(np.float32), labels.astype(np.int64), tiles.astype(np.float32))


def _community_places(graph: RelationGraph, labels: Ints, count: int, seed: int) -> Floats:
    """A place of each community, (count, 2): alike where many edges lead from one to the other."""
    head, tail = labels[graph.heads], labels[graph.tails]
    ends = np.r_[head, tail], np.r_[tail, head]
    links = sparse.csr_matrix((np.r_[graph.similarity, graph.similarity], ends), shape=(count, count))
    links.setdiag(0)
    draw = np.random.default_rng(seed)
    few = min(count, _BY_FORCES)
    places = np.zeros((count, 2))
    places[:few] = _forces(links[:few, :few].toarray(), draw.uniform(-1, 1, (few, 2)))
    # Smaller ones: at the mean of what they have edges with among those, else around all of them.
    weights = links[few:, :few]
    total = np.asarray(weights.sum(axis=1)).reshape(-1, 1)
    angle = draw.uniform(0, 2 * np.pi, count - few)
    around = 1.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    near = weights @ places[:few] / np.where(total > 0, total, 1)
    jitter = 0.02 * draw.standard_normal((count - few, 2))
    places[few:] = np.where(total > 0, near, around) + jitter
    return places


def _forces(weights: Floats, places: Floats) -> Floats:
    """Fruchterman and Reingold's places of a few vertices, scaled to a half-width of 1."""
    count = len(places)
    if count < 2:
        return places
    natural = np.sqrt(4 / count)
    pull = weights / max(weights.max(), 1e-12)
    for step in range(_STEPS):
        apart = places[:, None] - places[None]
        distance = np.sqrt((apart**2).sum(axis=2)) + 1e-9
        force = natural**2 / distance**2 - np.sqrt(pull) * distance / natural
        np.fill_diagonal(force, 0)
        move = np.einsum("ab,abd->ad", force, apart)
        # A weak pull to the middle keeps what has no edge from drifting away.
        move -= 0.3 * places
        length = np.sqrt((move**2).sum(axis=1, keepdims=True)) + 1e-12
        places = places + move / length * np.minimum(length, 0.2 * (1 - step / _STEPS))
    places = places - places.mean(axis=0)
    scaled: Floats = places / max(float(np.abs(places).max()), 1e-9)
    return scaled


def _tiles(places: Floats, sizes: Floats) -> Floats:
    """Tiles of the unit square, of areas in proportion to sizes, near each other where places are."""
    tiles = np.zeros((len(places), 4))
    waiting = [(np.arange(len(places)), (0.0, 0.0, 1.0, 1.0))] if len(places) else []
    while waiting:
        own, (left, bottom, right, top) = waiting.pop()
        if len(own) == 1:
            tiles[own[0]] = (left, bottom, right, top)
            continue
        across = right - left >= top - bottom
        own = own[np.argsort(places[own, 0 if across else 1], kind="stable")]
        cumulated = np.cumsum(sizes[own])
        cut = int(np.clip(np.searchsorted(cumulated, cumulated[-1] / 2) + 1, 1, len(own) - 1))
        # The boundary before or after the middle one, whichever is nearer to half.
        if cut > 1 and abs(cumulated[cut - 2] / cumulated[-1] - 0.5) < abs(cumulated[cut - 1] / cumulated[-1] - 0.5):
            cut -= 1
        share = cumulated[cut - 1] / cumulated[-1]
        if across:
            middle = left + share * (right - left)
            halves = (left, bottom, middle, top), (middle, bottom, right, top)
        else:
            middle = bottom + share * (top - bottom)
            halves = (left, bottom, right, middle), (left, middle, right, top)
        waiting += [(own[:cut], halves[0]), (own[cut:], halves[1])]
    return tiles


def _rows(graph: RelationGraph, labels: Ints) -> tuple[Ints, Ints]:
    """Of each node its place, from 0, among those of its community and dictionary, and how many these are."""
    keys = labels * len(graph.names) + graph.sources
    counts = np.bincount(keys)
    starts = np.cumsum(counts) - counts
    inside = labels[graph.heads] == labels[graph.tails]
    heads, tails, weights = graph.heads[inside], graph.tails[inside], graph.similarity[inside]
    weight = np.bincount(heads, weights, len(graph)) + np.bincount(tails, weights, len(graph))
    place = np.zeros(len(graph), np.int64)
    mean = np.zeros(len(graph))
    for _ in range(_SWEEPS):
        order = np.lexsort((mean, keys))
        place[order] = np.arange(len(graph)) - starts[keys[order]]
        along = (place + 0.5) / counts[keys]
        pulled = np.bincount(heads, weights * along[tails], len(graph))
        pulled += np.bincount(tails, weights * along[heads], len(graph))
        # Half of its own place: without, two rows can change places for ever.
        mean = np.where(weight > 0, 0.5 * along + 0.5 * pulled / np.where(weight > 0, weight, 1), along)
    return place, counts[keys]


def _in_tiles(
    graph: RelationGraph, labels: Ints, tiles: Floats, sizes: Ints, place: Ints, among: Ints
) -> tuple[Floats, Floats]:
    """Places of nodes: a band of the tile a dictionary, as high as its share of the latents; in it columns from left to
    right, of as many latents as make them square."""
    names = len(graph.names)
    counts = np.bincount(labels * names + graph.sources, minlength=len(sizes) * names).reshape(-1, names)
    below = np.cumsum(counts, axis=1) - counts
    left, bottom, right, top = (tiles[labels, side] for side in range(4))
    width, height = right - left, top - bottom
    band = among / sizes[labels] * height
    deep = np.clip(np.round(np.sqrt(among * band / np.maximum(width, 1e-12))), 1, among).astype(np.int64)
    columns = -(-among // deep)
    x = ((place // deep) + 0.5) / columns
    y = (below[labels, graph.sources] / sizes[labels] * height + band * ((place % deep) + 0.5) / deep) / height
    shrink = 1 - 2 * _MARGIN
    return left + width * (_MARGIN + shrink * x), bottom + height * (_MARGIN + shrink * y)
