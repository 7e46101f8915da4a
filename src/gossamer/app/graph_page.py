"""A part of a graph of relations, and a latent of it, as the page shows them."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.app.columns import graph_columns
from gossamer.app.pair_page import latent_of
from gossamer.app.related import RelatedFolder
from gossamer.app.schema.relations import PartnerShape
from gossamer.app.workbench import UnknownError
from gossamer.errors import UsageError
from gossamer.relations import RelationGraph, SitePair
from gossamer.relations.graph_view import GraphPart, GraphView
from gossamer.report import text

# Partners of a latent, each way, and nodes of a graph that have words.
_PARTNERS, _NAMES, _WORDS = 200, 300, 4
# Edges that a step of the threshold leaves, and the smallest step: smaller numbers are written otherwise in a page.
_LEAST_LEFT, _LEAST_STEP = 8, 1e-3


def graph_answer(found: RelatedFolder, measure: str, view: GraphView) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and columns of a view. Errors: those of :meth:`RelatedFolder.drawn` and of `DrawnGraph.at`."""
    drawn = found.drawn(measure)
    shown = drawn.at(view)
    header, columns = graph_columns(shown)
    header |= {
        "measure": measure,
        "threshold": drawn.graph.threshold,
        "largest": float(drawn.graph.similarity.max()),
        "tau": view.threshold,
        "steps": threshold_steps(drawn.graph),
        "dictionaries": list(drawn.graph.names),
        "names": _names(found, measure, shown),
        "tile": None if view.community is None else drawn.layout.tiles[view.community].tolist(),
    }
    if shown.detail == "latents":
        columns["dictionary"] = drawn.graph.sources[shown.ids].astype("uint8")
        columns["latent"] = drawn.graph.latents[shown.ids].astype("uint32")
        columns["community"] = drawn.layout.labels[shown.ids].astype("uint32")
    return header, columns


def threshold_steps(graph: RelationGraph) -> list[float]:
    """Thresholds above the graph's own, each of which leaves about half of the edges that the one before leaves.

    A page without a server has the graph at these. At most six, with four digits, and as far as some edges are left.
    """
    found: list[float] = []
    strongest = np.sort(graph.similarity)[::-1]
    for halving in range(1, 7):
        left = len(strongest) >> halving
        value = float(f"{strongest[left]:.4g}") if left >= _LEAST_LEFT else 0.0
        if max(graph.threshold, _LEAST_STEP, *found) < value <= strongest[0]:
            found.append(value)
    return found


def latent_facts(found: RelatedFolder, measure: str, name: tuple[str, int], tau: float) -> dict[str, Any]:
    """What is said of a latent of a graph, but for what every answer says.

    Raises:
        UnknownError: it has no edge in the graph.
        UsageError: no such dictionary.
    """
    drawn, (source, number) = found.drawn(measure), name
    graph = drawn.graph
    places = [at for at in graph.layer(source).tolist() if graph.latents[at] == number]
    if not places:
        raise UnknownError(f"{source}/{number}: without an edge in this graph")
    upstream, downstream = drawn.partners(places[0], max(tau, graph.threshold))
    said, community = latent_of(found, source, number), int(drawn.layout.labels[places[0]])
    return {
        "name": said.name,
        "words": said.words,
        "explanation": said.explanation,
        "link": _link(found.facts(source, number).link),
        "community": community,
        "community_words": list(map(text.visible, found.community_labels(measure).get(community, ()))),
        "active": said.active,
        "tokens": next(iter(found.relations.values())).tokens,
        "upstream": [_partner(found, measure, one, name, up=True) for one in upstream[:_PARTNERS]],
        "downstream": [_partner(found, measure, one, name, up=False) for one in downstream[:_PARTNERS]],
        "hidden": sum(max(len(side) - _PARTNERS, 0) for side in (upstream, downstream)),
    }


def split_name(name: str) -> tuple[str, int]:
    """Dictionary and number of DICTIONARY/LATENT.

    Raises:
        UsageError: it is no such name.
    """
    source, _, number = name.rpartition("/")
    if not source or not number.isascii() or not number.isdigit() or len(number) > 9:
        raise UsageError(f"latent: DICTIONARY/LATENT expected, as resid_post.2/17, found {name!r}")
    return source, int(number)


def _names(found: RelatedFolder, measure: str, shown: GraphPart) -> dict[str, list[str]]:
    """Words of the largest nodes, by their ids."""
    strongest = shown.ids[(-shown.size.astype(int)).argsort(kind="stable")[:_NAMES]].tolist()
    if shown.detail == "communities":
        labels = found.community_labels(measure)
        words = {one: labels.get(one, ()) for one in strongest}
    else:
        graph = found.drawn(measure).graph
        words = {one: found.facts(graph.names[graph.sources[one]], int(graph.latents[one])).words for one in strongest}
    return {str(one): [text.visible(word) for word in own[:_WORDS]] for one, own in words.items() if own}


def _partner(
    found: RelatedFolder, measure: str, edge: tuple[int, float], name: tuple[str, int], *, up: bool
) -> PartnerShape:
    (node, similarity), graph = edge, found.drawn(measure).graph
    other = graph.names[graph.sources[node]], int(graph.latents[node])
    (first, i), (second, j) = (other, name) if up else (name, other)
    # A graph that was saved may be of more pairs than lie beside it.
    relation = found.relations.get(SitePair(first, second))
    both = [] if relation is None else relation.kept.c[(relation.kept.i == i) & (relation.kept.j == j)]
    return PartnerShape(
        name=f"{other[0]}/{other[1]}",
        words=[text.visible(word) for word in found.facts(*other).words[:_WORDS]],
        similarity=similarity if math.isfinite(similarity) else None,
        both=int(both[0]) if len(both) else None,
    )


def _link(link: str | None) -> str | None:
    """Addresses come from files of other people: only web addresses become links."""
    return link if link and link.startswith(("https://", "http://")) else None
