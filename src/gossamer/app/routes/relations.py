"""The relations view: what was found, the graph at any level of detail, a latent of it, and a pair."""

import math
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from gossamer.app.columns import MEDIA_TYPE, encode_columns, graph_columns
from gossamer.app.pair_page import latent_of, pair_page
from gossamer.app.related import RelatedFolder, RelatedFolders
from gossamer.app.schema.base import PartId
from gossamer.app.schema.relations import GraphNode, MeasureFacts, PairPage, PartnerShape, RelationsPage
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.errors import UsageError
from gossamer.relations.graph_view import Box, GraphPart, GraphView
from gossamer.relations.relations_data import FORMAT
from gossamer.report import text
from gossamer.report.relations_page import relations_texts

Measure = Annotated[str, Query(pattern=r"^[a-z_]{3,40}$")]
Tau = Annotated[float | None, Query(ge=0, le=1)]
LatentName = Annotated[str, Query(max_length=120)]
# Partners of a latent, each way, and names that are written into the graph.
_PARTNERS, _NAMES, _WORDS = 200, 300, 4


def relation_routes(bench: Workbench) -> APIRouter:
    """Relations of the run."""
    routes = APIRouter(prefix="/relations/{part}")
    folders = RelatedFolders(bench)

    @routes.get("")
    def relations(part: PartId) -> RelationsPage:
        """All that was found, and by which measures a graph can be drawn."""
        own, found = folders.of(part)
        data = found.data
        try:
            measures, missing = found.measures(), None
        except UsageError as error:
            measures, missing = [], str(error)
        return RelationsPage(
            **bench.said(),
            id=own.id,
            file=str(own.path),
            folder=str(own.path.parent),
            title=data.model,
            tokens=max((pair.tokens for pair in data.pairs), default=0),
            dictionaries=[one.name for one in data.dictionaries],
            data=FORMAT.encode(data),
            shown=relations_texts(data),
            measures=[MeasureFacts(name=name, chance=data.edge_thresholds.get(name)) for name in measures],
            graph=missing,
        )

    @routes.get("/graph", response_class=Response, responses={200: {"content": {MEDIA_TYPE: {}}}})
    def graph(
        part: PartId,
        measure: Measure,
        tau: Tau = None,
        community: Annotated[int | None, Query(ge=0)] = None,
        viewport: Annotated[str, Query(pattern=r"^-?[0-9.]{1,20}(,-?[0-9.]{1,20}){3}$")] = "0,0,1,1",
        detail: Literal["auto", "communities", "latents"] = "auto",
    ) -> Response:
        """What is drawn of a viewport (left,bottom,right,top of the unit square), in columns."""
        found = folders.of(part)[1]
        drawn = found.drawn(measure)
        view = GraphView(max(tau or 0.0, drawn.graph.threshold), _box(viewport), community, detail)
        shown = drawn.at(view)
        header, columns = graph_columns(shown)
        header |= {
            **bench.said(),
            "measure": measure,
            "threshold": drawn.graph.threshold,
            "largest": float(drawn.graph.similarity.max()),
            "tau": view.threshold,
            "dictionaries": list(drawn.graph.names),
            "names": _names(found, measure, shown),
            "tile": None if community is None else drawn.layout.tiles[community].tolist(),
        }
        if shown.detail == "latents":
            columns["dictionary"] = drawn.graph.sources[shown.ids].astype("uint8")
            columns["latent"] = drawn.graph.latents[shown.ids].astype("uint32")
            columns["community"] = drawn.layout.labels[shown.ids].astype("uint32")
        return Response(encode_columns(header, columns), media_type=MEDIA_TYPE)

    @routes.get("/latent")
    def latent(part: PartId, name: LatentName, measure: Measure, tau: Tau = None) -> GraphNode:
        """A latent of a graph, and what it has edges with."""
        found = folders.of(part)[1]
        drawn = found.drawn(measure)
        source, number = split_name(name)
        graph = drawn.graph
        places = [at for at in graph.layer(source).tolist() if graph.latents[at] == number]
        if not places:
            raise UnknownError(f"{name}: without an edge in this graph")
        node, labels = places[0], found.community_labels(measure)
        sides = drawn.partners(node, max(tau or 0.0, graph.threshold))
        said = latent_of(found, source, number)
        return GraphNode(
            **bench.said(),
            name=name,
            words=said.words,
            explanation=said.explanation,
            link=_link(found.facts(source, number).link),
            community=int(drawn.layout.labels[node]),
            community_words=list(map(text.visible, labels.get(int(drawn.layout.labels[node]), ()))),
            active=said.active,
            tokens=next(iter(found.relations.values())).tokens,
            upstream=[_partner(found, measure, one, number, source, up=True) for one in sides[0][:_PARTNERS]],
            downstream=[_partner(found, measure, one, number, source, up=False) for one in sides[1][:_PARTNERS]],
            hidden=sum(max(len(side) - _PARTNERS, 0) for side in sides),
        )

    @routes.get("/pair")
    def pair(part: PartId, a: LatentName, b: LatentName) -> PairPage:
        """Two latents at the same tokens; either may be the upstream one."""
        return pair_page(bench, folders.of(part)[1], split_name(a), split_name(b))

    return routes


def split_name(name: str) -> tuple[str, int]:
    """Dictionary and number of DICTIONARY/LATENT.

    Raises:
        UsageError: it is no such name.
    """
    source, _, number = name.rpartition("/")
    if not source or not number.isascii() or not number.isdigit() or len(number) > 9:
        raise UsageError(f"latent: DICTIONARY/LATENT expected, as resid_post.2/17, found {name!r}")
    return source, int(number)


def _box(viewport: str) -> Box:
    try:
        left, bottom, right, top = (float(one) for one in viewport.split(","))
    except ValueError as error:
        raise UsageError(f"viewport: left,bottom,right,top expected, found {viewport!r}") from error
    return left, bottom, right, top


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
    found: RelatedFolder, measure: str, one: tuple[int, float], latent: int, source: str, *, up: bool
) -> PartnerShape:
    node, similarity = one
    graph = found.drawn(measure).graph
    other, number = graph.names[graph.sources[node]], int(graph.latents[node])
    i, j = (number, latent) if up else (latent, number)
    relation = next(
        one for pair, one in found.relations.items() if tuple(pair) == ((other, source) if up else (source, other))
    )
    both = relation.kept.c[(relation.kept.i == i) & (relation.kept.j == j)]
    words = found.facts(other, number).words[:_WORDS]
    return PartnerShape(
        name=f"{other}/{number}",
        words=[text.visible(word) for word in words],
        similarity=similarity if math.isfinite(similarity) else None,
        both=int(both[0]) if len(both) else 0,
    )


def _link(link: str | None) -> str | None:
    """Addresses come from files of other people: only web addresses become links."""
    return link if link and link.startswith(("https://", "http://")) else None
