"""A seeded graph of many latents in layers, with communities of very different sizes."""

import numpy as np

from gossamer.relations import RelationGraph


def large_graph(nodes, edges, layers=10, communities=800, seed=0):
    """The graph and the community of each node; two thirds of the edges lead to the next layer of their community."""
    draw = np.random.default_rng(seed)
    labels = np.minimum((draw.pareto(1.0, nodes) * 3).astype(int), communities - 1)
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    sources = np.sort(draw.integers(0, layers, nodes))
    keys = labels * layers + sources
    order = np.argsort(keys, kind="stable")
    heads = draw.integers(0, nodes, edges)
    # A node of the same community one layer on, where it has some; else any node of that layer.
    own = draw.random(edges) < 2 / 3
    wanted = (
        np.where(own, labels[heads], labels[draw.integers(0, nodes, edges)]) * layers + (sources[heads] + 1) % layers
    )
    first, last = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
    there = first < last
    places = first + (draw.random(edges) * (last - first)).astype(int)
    tails = order[np.minimum(places, nodes - 1)]
    heads, tails = heads[there], tails[there]
    names = tuple(f"resid_post.{layer}" for layer in range(layers))
    similarity = draw.random(len(heads))
    return RelationGraph(names, sources, np.arange(nodes), heads, tails, similarity, "pearson", 0.0), labels
