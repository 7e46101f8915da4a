"""Layout and level of detail of large graphs: places that mean something, answers that equal a naive look, in time."""

import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from large_graph import large_graph

from gossamer.errors import GossamerError, UsageError
from gossamer.relations import DrawnGraph, GraphLayout, GraphView, RelationGraph, layout_graph
from gossamer.relations.graph_view import MOST_COMMUNITIES, MOST_EDGES, MOST_NODES


@pytest.fixture(scope="module")
def small():
    graph, labels = large_graph(600, 2500, layers=4, communities=20)
    return DrawnGraph(graph, layout_graph(graph, labels))


@pytest.fixture(scope="module")
def large():
    graph, labels = large_graph(100_000, 560_000)
    return DrawnGraph(graph, layout_graph(graph, labels))


def test_tiles_fill_the_square_and_do_not_overlap(small):
    tiles, labels = small.layout.tiles.astype(float), small.layout.labels
    widths, heights = tiles[:, 2] - tiles[:, 0], tiles[:, 3] - tiles[:, 1]
    areas = widths * heights
    assert areas.sum() == pytest.approx(1, abs=1e-5)
    assert areas == pytest.approx(np.bincount(labels) / len(labels), rel=1e-3)
    for one in range(len(tiles)):
        for other in range(one):
            across = min(tiles[one, 2], tiles[other, 2]) - max(tiles[one, 0], tiles[other, 0])
            up = min(tiles[one, 3], tiles[other, 3]) - max(tiles[one, 1], tiles[other, 1])
            assert min(across, up) < 1e-6


def test_latents_stand_in_their_tile_with_the_first_dictionary_at_the_bottom(small):
    layout, sources = small.layout, small.graph.sources
    own = layout.tiles[layout.labels]
    assert ((layout.x > own[:, 0]) & (layout.x < own[:, 2])).all()
    assert ((layout.y > own[:, 1]) & (layout.y < own[:, 3])).all()
    for community in np.unique(layout.labels):
        here = layout.labels == community
        tops = [layout.y[here & (sources == layer)] for layer in range(4)]
        tops = [one for one in tops if len(one)]
        assert all(lower.max() < upper.min() for lower, upper in pairwise(tops))
    assert len(np.unique(np.stack([layout.x, layout.y]), axis=1).T) == len(layout.x)


def test_what_belongs_together_stands_together():
    """Three cliques of communities: distances inside one are smaller than between two."""
    draw = np.random.default_rng(1)
    labels = np.repeat(np.arange(12), 10)
    heads, tails = (draw.integers(0, 120, 4000) for _ in range(2))
    alike = labels[heads] // 4 == labels[tails] // 4
    graph = RelationGraph(
        ("resid_post.0", "resid_post.1"),
        np.arange(120) % 2,
        np.arange(120),
        *(heads[alike], tails[alike]),
        *(np.ones(int(alike.sum())), "jaccard", 0.1),
    )
    tiles = layout_graph(graph, labels).tiles
    middles = (tiles[:, :2] + tiles[:, 2:]) / 2
    apart = np.linalg.norm(middles[:, None] - middles[None], axis=2)
    group = np.arange(12) // 4
    inside = apart[(group[:, None] == group[None]) & ~np.eye(12, dtype=bool)]
    assert inside.mean() < 0.75 * apart[group[:, None] != group[None]].mean()


def test_barycentres_shorten_edges(small):
    """Against the same tiles with every row shuffled."""
    graph, layout = small.graph, small.layout
    draw, shuffled = np.random.default_rng(0), layout.x.copy()
    for key in np.unique(layout.labels * 4 + graph.sources):
        own = np.flatnonzero(layout.labels * 4 + graph.sources == key)
        shuffled[own] = shuffled[draw.permutation(own)]
    inside = layout.labels[graph.heads] == layout.labels[graph.tails]
    spans = [np.abs(x[graph.heads] - x[graph.tails])[inside].mean() for x in (layout.x, shuffled)]
    assert spans[0] < 0.85 * spans[1]


def test_a_layout_is_the_same_again_and_from_its_file(small, tmp_path):
    again = layout_graph(small.graph, small.layout.labels)
    read = GraphLayout.load(again.save(tmp_path / "layout.safetensors"))
    for name in ("x", "y", "labels", "tiles"):
        assert (getattr(again, name) == getattr(small.layout, name)).all()
        assert (getattr(read, name) == getattr(again, name)).all()
    (tmp_path / "layout.safetensors").write_bytes(b"{")
    with pytest.raises(GossamerError, match="damage"):
        GraphLayout.load(tmp_path / "layout.safetensors")
    with pytest.raises(UsageError, match="no such file"):
        GraphLayout.load(tmp_path / "nothing")


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.2, 0.1, 0.6, 0.5)])
@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_latents_in_sight_are_those_of_a_naive_look(small, box, threshold):
    graph, layout = small.graph, small.layout
    found = small.at(GraphView(threshold, box, detail="latents"))
    strong = [(h, t, w) for h, t, w in zip(graph.heads, graph.tails, graph.similarity, strict=True) if w >= threshold]
    having = {end for h, t, _ in strong for end in (h, t)}
    seen = {node for node in having if box[0] <= layout.x[node] <= box[2] and box[1] <= layout.y[node] <= box[3]}
    assert set(found.ids.tolist()) == seen
    between = Counter((h, t, w) for h, t, w in strong if h in seen and t in seen)
    drawn = zip(found.edges[:, 0].tolist(), found.edges[:, 1].tolist(), found.weight.tolist(), strict=True)
    assert Counter(drawn) == between
    assert found.weight.tolist() == sorted(found.weight.tolist(), reverse=True)
    assert found.counts["nodes"] == len(seen)
    assert found.counts["edges_leading_away"] == sum((h in seen) != (t in seen) for h, t, _ in strong)
    assert found.counts["all_nodes"] == len(having)
    assert (found.colour == layout.labels[found.ids] % 12).all()


def test_communities_bundle_their_edges(small):
    graph, labels = small.graph, small.layout.labels
    found = small.at(GraphView(0.5, detail="communities"))
    sums, numbers = Counter(), Counter()
    inside = 0
    for h, t, w in zip(labels[graph.heads], labels[graph.tails], graph.similarity, strict=True):
        if w >= 0.5:
            inside += h == t
            if h != t:
                sums[min(h, t), max(h, t)] += w
                numbers[min(h, t), max(h, t)] += 1
    drawn = {(a, b): (w, n) for (a, b), w, n in zip(found.edges.tolist(), found.weight, found.bundled, strict=True)}
    # The strongest ones, four for each community.
    strongest = dict(sorted(sums.items(), key=lambda one: -one[1])[: 4 * len(found.ids)])
    assert {pair: w for pair, (w, _) in drawn.items()} == pytest.approx(strongest)
    assert {pair: n for pair, (_, n) in drawn.items()} == {pair: numbers[pair] for pair in strongest}
    assert found.counts["edges"] == len(sums) > len(drawn)
    assert found.counts["edges_inside"] == inside
    having = np.zeros(len(graph), bool)
    strong = graph.similarity >= 0.5
    having[graph.heads[strong]] = having[graph.tails[strong]] = True
    assert dict(zip(found.ids.tolist(), found.members.tolist(), strict=True)) == dict(Counter(labels[having].tolist()))
    assert found.size.max() == 255
    assert found.ids[found.size.argmax()] == found.ids[found.members.argmax()]


def test_one_community_alone(small):
    found = small.at(GraphView(community=3))
    assert found.detail == "latents"
    assert (small.layout.labels[found.ids] == 3).all()
    assert found.counts["nodes"] == len(found.ids) == (small.layout.labels == 3).sum()
    with pytest.raises(UsageError, match=r"community: 0 to \d+ expected, found 99"):
        small.at(GraphView(community=99))
    with pytest.raises(UsageError, match="a box as left,bottom,right,top expected"):
        GraphView(box=(1.0, 0.0, 0.0, 1.0))


def test_partners_are_told_apart_by_direction(small):
    graph = small.graph
    node = int(np.bincount(graph.heads).argmax())
    upstream, downstream = small.partners(node, 0.4)
    edges = list(zip(graph.heads.tolist(), graph.tails.tolist(), graph.similarity.tolist(), strict=True))
    assert Counter(downstream) == Counter((t, w) for h, t, w in edges if h == node and w >= 0.4)
    assert Counter(upstream) == Counter((h, w) for h, t, w in edges if t == node and w >= 0.4)
    for side in (upstream, downstream):
        assert [w for _, w in side] == sorted((w for _, w in side), reverse=True)


def test_a_hundred_thousand_latents_are_answered_in_time_and_within_bounds(large):
    assert len(large.graph.heads) >= 500_000
    boxes = [(0.0, 0.0, 1.0, 1.0), (0.3, 0.3, 0.7, 0.7), (0.45, 0.45, 0.55, 0.55)]
    for view in [GraphView(box=box) for box in boxes] + [GraphView(0.5, detail="latents"), GraphView(community=0)]:
        large.at(view)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            found = large.at(view)
            seconds.append(time.perf_counter() - began)
        assert min(seconds) <= 0.3
        most = MOST_COMMUNITIES if found.detail == "communities" else MOST_NODES
        assert 0 < len(found.ids) <= most
        assert len(found.edges) <= MOST_EDGES
        assert found.counts["nodes"] >= len(found.ids)
    assert large.at(GraphView()).detail == "communities"
    assert large.at(GraphView(box=boxes[-1])).detail == "latents"
    # Of too many the strongest are drawn.
    strength = np.bincount(large.graph.heads, large.graph.similarity, len(large.graph))
    strength += np.bincount(large.graph.tails, large.graph.similarity, len(large.graph))
    whole = large.at(GraphView(detail="latents"))
    assert whole.counts["nodes"] > MOST_NODES
    assert strength[whole.ids].min() >= np.sort(strength)[-MOST_NODES]
