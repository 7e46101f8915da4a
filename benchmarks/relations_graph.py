"""Level of detail of a large graph of relations: seconds and bytes of an answer, beside the whole graph as JSON.

    python benchmarks/relations_graph.py [--nodes 100000] [--edges 500000] [--quick] [--json]

A seeded graph in 10 layers with communities of very different sizes. Ours is the answer to one view, as the workbench
sends it: columns of numbers in one piece, the median of 9 requests. Theirs is what a page does without levels of
detail: one object a node and an edge, of all of them. Views: everything, a quarter, a hundredth and one community. The
last rows are the layout, made once, and its file.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows import Row, parser, row, show

from gossamer.app.columns import encode_columns, graph_columns
from gossamer.relations import DrawnGraph, GraphLayout, GraphView, layout_graph

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "relations"))
from large_graph import large_graph

REPEATS = 9


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "10,000 latents and 50,000 edges")
    made.add_argument("--nodes", type=int, default=100_000)
    made.add_argument("--edges", type=int, default=500_000)
    options = made.parse_args()
    if options.quick:
        options.nodes, options.edges = 10_000, 50_000
    show(rows(options), options.json)


def rows(options: argparse.Namespace) -> list[Row]:
    """Each view, and the layout."""
    # Some edges that are drawn lead nowhere and are dropped.
    graph, labels = large_graph(options.nodes, int(1.15 * options.edges))
    layout, laying = timed(lambda: layout_graph(graph, labels))
    drawn = DrawnGraph(graph, layout)
    drawn.at(GraphView())
    whole, writing = timed(lambda: as_objects(drawn))
    views = {
        "everything": GraphView(),
        "a quarter": GraphView(box=(0.25, 0.25, 0.75, 0.75)),
        "a hundredth": GraphView(box=(0.45, 0.45, 0.55, 0.55)),
        "the largest community": GraphView(community=0),
    }
    found, what = [], f"{len(graph):,} latents, {len(graph.heads):,} edges"
    for name, view in views.items():
        seconds = statistics.median(timed(lambda view=view: answer(drawn, view))[1] for _ in range(REPEATS))
        size = len(answer(drawn, view))
        found.append(row(f"{what}: {name}, a request", seconds, writing, "s", "<= 0.3 s", seconds <= 0.3))
        found.append(
            row(f"{what}: {name}, bytes", size, len(whole), "bytes", "<= 0.02 of all", size <= 0.02 * len(whole))
        )
    with tempfile.TemporaryDirectory() as folder:
        path = layout.save(Path(folder) / "layout.safetensors")
        _, reading = timed(lambda: GraphLayout.load(path))
    found.append(
        row(f"{what}: layout, beside reading its file", laying, reading, "s", "<= 20 s, made once", laying <= 20)
    )
    return found


def answer(drawn: DrawnGraph, view: GraphView) -> bytes:
    """As the server answers."""
    return encode_columns(*graph_columns(drawn.at(view)))


def as_objects(drawn: DrawnGraph) -> str:
    """The whole graph in JSON, an object a node and an edge."""
    graph, layout = drawn.graph, drawn.layout
    nodes = [
        {"id": name, "x": x, "y": y, "community": community}
        for name, x, y, community in zip(
            graph.ids, layout.x.tolist(), layout.y.tolist(), layout.labels.tolist(), strict=True
        )
    ]
    edges = [
        {"source": graph.ids[head], "target": graph.ids[tail], "weight": weight}
        for head, tail, weight in zip(
            graph.heads.tolist(), graph.tails.tolist(), graph.similarity.tolist(), strict=True
        )
    ]
    return json.dumps({"nodes": nodes, "edges": edges})


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a work gives, and its seconds."""
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


if __name__ == "__main__":
    main()
