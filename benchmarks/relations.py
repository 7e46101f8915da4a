"""Relations of all adjacent pairs at once, beside the dense method that goes through the corpus once a pair.

    python benchmarks/relations.py [--sites 12] [--latents 24576] [--l0 50] [--tokens 32768] [--quick] [--json]
    python benchmarks/relations.py --growth FIGURE.png

The dense method keeps a matrix of latents x latents in float32 for c_ij and one for sum f_i g_j, and adds the product
of dense activations to each, batch by batch of 1,024 tokens; it goes through the tokens once for each pair, so tokens/s
are those of one pair over the number of pairs. It is timed on --dense-tokens of them. Ours counts all pairs in one
pass, with its limit on entries in memory, and finds all best partners and kept pairs at the end, which is counted in.

Latents: how often each is active is log-normal (sigma 1.5), --l0 of them at a token; half of what a site has active at
a token is that of the site before, so that there is something to find. Neither side runs a model: the dense method
would run it once a pair, ours once. Memory is how far the peak of a fresh process rises over its latents; counts must
be equal and products agree to 1e-5, or the rows fail.

The last rows are of a graph that is there already: what a page asks of it, beside looking at every edge.

With --growth instead: seconds of one pair of sites, with its pairs of latents that were ever active together, as
tokens, latents and L0 grow one by one from 8,192, 4,096 and 16, and a figure of that.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from growth import draw, grown, growth_rows
from rows import Row, parser, row, show

from gossamer.engine import ThisProcess
from gossamer.relations import GivenLatents, Keep, RelationGraph, SitePair, adjacent, relate
from gossamer.relations.blocks import BLOCK_ROWS, BlockCounter
from gossamer.relations.relate import relations_of
from gossamer.sparse.latents import SparseLatents

POSITIONS = 128
DENSE_BATCH = 1024


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "4 sites of 4,096 latents, 8,192 tokens")
    made.add_argument("--sites", type=int, default=12)
    made.add_argument("--latents", type=int, default=24576)
    made.add_argument("--l0", type=int, default=50)
    made.add_argument("--tokens", type=int, default=32768)
    made.add_argument("--dense-tokens", type=int, default=1024)
    made.add_argument("--entries", type=int, default=2**24, help="of all sums that stay in memory")
    made.add_argument("--growth", type=Path, metavar="FIGURE.png", help="how the cost grows instead, and its figure")
    options = made.parse_args()
    if options.growth is not None:
        show(growth(options), options.json)
        return
    if options.quick:
        options.sites, options.latents, options.tokens, options.entries = 4, 4096, 8192, 2**20
    show(rows(options), options.json)


def rows(options: argparse.Namespace) -> list[Row]:
    """Ours beside the dense method, and how ours grows."""
    # First: a process begins with the peak of the one that starts it.
    ours, dense = (in_a_process(work, options) for work in (sparse_run, dense_run))
    pairs = options.sites - 1
    rates = options.tokens / ours["seconds"], options.dense_tokens / dense["seconds"] / pairs
    equal = agree(options)
    what = f"{pairs} pairs of {options.latents:,} latents, L0 {options.l0}"
    half = argparse.Namespace(**{**vars(options), "tokens": options.tokens // 2})
    wide = argparse.Namespace(**{**vars(options), "l0": 2 * options.l0, "tokens": options.tokens // 2})
    halves, wider = (in_a_process(sparse_run, one)["seconds"] for one in (half, wide))
    return [
        row(f"{what}: tokens/s of all pairs", *rates, "tokens/s", ">= 20x", rates[0] >= 20 * rates[1] and equal),
        row(
            f"{what}: peak memory",
            ours["mib"],
            dense["mib"],
            "MiB",
            "<= 0.1x",
            ours["mib"] <= 0.1 * dense["mib"] and equal,
        ),
        row("counts equal, products to 1e-5 (1: yes)", float(equal), 1.0, "", "equal", equal),
        row(
            "seconds: all tokens beside half of them",
            ours["seconds"],
            halves,
            "s",
            "<= 2.5x",
            ours["seconds"] <= 2.5 * halves,
        ),
        row("seconds: twice the L0 beside once, half the tokens", wider, halves, "s", "<= 6x", wider <= 6 * halves),
        *questions(),
    ]


def questions(nodes: int = 300_000, edges: int = 500_000) -> list[Row]:
    """What a page or a workbench asks of a large graph, beside scanning its edges; median of 50, in milliseconds."""
    draw = np.random.default_rng(0)
    names, width = tuple(f"resid_post.{layer}" for layer in range(12)), nodes // 12
    sources, latents = np.repeat(np.arange(12), width), np.tile(np.arange(width), 12)
    heads = draw.integers(11 * width, size=edges)
    tails = (heads // width + 1) * width + draw.integers(width, size=edges)
    similarity = draw.random(edges)
    graph = RelationGraph(names, sources, latents, heads, tails, similarity, "pearson", 1e-9)
    active = {name: draw.choice(width, 24, replace=False).tolist() for name in names}
    lit_nodes = np.concatenate([place * width + np.array(own) for place, own in enumerate(active.values())])

    def scanned_neighbours(node: int) -> Any:
        return np.flatnonzero(((heads == node) | (tails == node)) & (similarity >= 0.3))

    def scanned_layer(place: int) -> Any:
        return [np.flatnonzero((sources[ends] == place) & (similarity >= 0.9)) for ends in (heads, tails)]

    def scanned_lit(_: int) -> Any:
        return np.flatnonzero(np.isin(heads, lit_nodes) & np.isin(tails, lit_nodes))

    asked = {
        "neighbours of a latent from 0.3": (lambda at: graph.neighbours(at, 0.3), scanned_neighbours, nodes),
        "edges of a layer from 0.9": (lambda at: graph.layer_edges(names[at], 0.9), scanned_layer, 12),
        "the part that a prompt lights up": (lambda _: graph.lit_by(active), scanned_lit, 1),
    }
    found = []
    for what, (ours, theirs, bound) in asked.items():
        # The first asks for the index, once.
        agreed = _edges(ours(0)) == _edges(theirs(0))
        times = [_median(one, draw.integers(bound, size=50).tolist()) for one in (ours, theirs)]
        name = f"{what}, {nodes:,} latents and {edges:,} edges"
        found.append(row(name, *times, "ms", "<= 5 ms, as many found", times[0] <= 5 and agreed))
    return found


def _edges(found: Any) -> int:
    """How many edges were found: in a part of a graph, up and down of a layer, or of a node."""
    if isinstance(found, RelationGraph):
        return len(found.heads)
    return sum(map(len, found)) if len(found) == 2 and isinstance(found[0], np.ndarray) else len(found)


def _median(ask: Any, places: list[int]) -> float:
    times = []
    for at in places:
        began = time.perf_counter()
        ask(at)
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times))


def growth(options: argparse.Namespace) -> list[Row]:
    """How one pair's cost grows with each size."""
    base = argparse.Namespace(**{**vars(options), "sites": 2, "tokens": 8192, "latents": 4096, "l0": 16})
    factors = (1, 2) if options.quick else (1, 2, 4, 8)
    sizes = {name: [getattr(base, name) * factor for factor in factors] for name in ("tokens", "latents", "l0")}
    units = {"seconds": "s", "pairs of latents": ""}
    found = grown(base, sizes, pair_cost)
    draw(found, units, options.growth)
    return growth_rows(found, "one pair of sites", units)


def pair_cost(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of this process from latents to kept pairs, and pairs of latents that were ever active together."""
    latents = data(options, options.tokens)
    stream, pair = GivenLatents(latents, batch_size=8), SitePair(*latents)
    began = time.process_time()
    relation = relate(stream, [pair], null=False, keep=Keep(least=1))[pair]
    seconds = time.process_time() - began
    return {"seconds": seconds, "pairs of latents": float(relation.histograms["cosine"].sum())}


def data(options: argparse.Namespace, tokens: int) -> dict[str, SparseLatents]:
    """Latents of every site."""
    draw = np.random.default_rng(0)
    share = draw.lognormal(sigma=1.5, size=options.latents)
    bounds = np.cumsum(share / share.sum())
    before, found = None, {}
    starts = torch.arange(tokens + 1) * options.l0
    for site in range(options.sites):
        chosen = np.searchsorted(bounds, draw.random((tokens, options.l0)))
        if before is not None:
            chosen[:, ::2] = (before[:, ::2] + 7) % options.latents
        before = chosen
        chosen = np.sort(chosen, axis=1)
        # One that was drawn twice is active once.
        values = (0.5 + draw.random(chosen.shape)) * (np.diff(chosen, axis=1, prepend=-1) > 0)
        parts = torch.from_numpy(chosen.reshape(-1)), torch.from_numpy(values.reshape(-1)).float()
        shape = (tokens // POSITIONS, POSITIONS)
        found[f"resid_post.{site}"] = SparseLatents(starts, *parts, options.latents, shape)
    return found


def sparse_run(options: argparse.Namespace) -> dict[str, float]:
    """All pairs in one pass, from the first token to kept pairs."""
    stream = GivenLatents(data(options, options.tokens), batch_size=8)
    return measured(lambda: relate(stream, adjacent(stream.widths), null=False, entries=options.entries))


def dense_run(options: argparse.Namespace) -> dict[str, float]:
    """One pair."""
    few = argparse.Namespace(**{**vars(options), "sites": 2})
    pair = list(data(few, options.dense_tokens).values())
    return measured(lambda: dense_pair(*pair))


def dense_pair(upstream: SparseLatents, downstream: SparseLatents) -> tuple[torch.Tensor, torch.Tensor]:
    """c_ij and sum f_i g_j by dense outer products."""
    counts, products = (torch.zeros(upstream.n_latents, downstream.n_latents) for _ in range(2))
    flat = [one.dense().reshape(-1, one.n_latents) for one in (upstream, downstream)]
    for f, g in zip(*(one.split(DENSE_BATCH) for one in flat), strict=True):
        counts.addmm_((f > 0).float().T, (g > 0).float())
        products.addmm_(f.T, g)
    return counts, products


def agree(options: argparse.Namespace) -> bool:
    """Whether both give the same of a pair, on few enough latents to hold all pairs."""
    few = argparse.Namespace(**{**vars(options), "sites": 2, "latents": min(options.latents, 2048)})
    latents = data(few, 2048)
    stream, pair = GivenLatents(latents, batch_size=3), SitePair(*latents)
    thresholds = {name: np.zeros(width) for name, width in stream.widths.items()}
    counter = BlockCounter(stream, BLOCK_ROWS, ThisProcess())
    with counter.counted([pair], thresholds, entries=4096, products=True, null=False) as counted:
        found = relations_of(counted, Keep(("jaccard",), threshold=1e-12, least=1))[pair].kept
    counts, products = (one.numpy() for one in dense_pair(*latents.values()))
    return bool(
        len(found) == (counts > 0).sum()
        and (counts[found.i, found.j] == found.c).all()
        and np.allclose(products[found.i, found.j], found.products, rtol=1e-5)
    )


def measured(work: Any) -> dict[str, float]:
    """Seconds of a work, and MiB that the peak rises."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def in_a_process(work: Any, options: argparse.Namespace) -> dict[str, float]:
    """A fresh one, so that the peak is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: dict[str, float] = pool.apply(work, (options,))
    return found


if __name__ == "__main__":
    main()
