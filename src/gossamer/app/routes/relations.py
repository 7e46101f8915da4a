"""The relations view: what was found, the graph at any level of detail, a latent of it, and a pair."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from gossamer.app.columns import MEDIA_TYPE, encode_columns
from gossamer.app.graph_page import graph_answer, latent_facts, split_name, threshold_steps
from gossamer.app.pair_page import pair_page
from gossamer.app.related import KINDS, RelatedFolders
from gossamer.app.schema.base import PartId
from gossamer.app.schema.relations import GraphNode, MeasureFacts, PairPage, RelationsPage
from gossamer.app.sets import all_sets
from gossamer.app.workbench import Workbench
from gossamer.errors import GossamerError, UsageError
from gossamer.model.names import same_model
from gossamer.relations.graph_view import Box, GraphView
from gossamer.relations.relations_data import FORMAT, RelationsData
from gossamer.report.relations_page import relations_texts

# As the page asks for all of it; communities whose insides an exported page holds.
_WHOLE, _EXPORTED = "0.00000,0.00000,1.00000,1.00000", 60
Measure = Annotated[str, Query(pattern=r"^[a-z_]{3,40}$")]
Tau = Annotated[float | None, Query(ge=0, le=1)]
LatentName = Annotated[str, Query(max_length=120)]


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
            latents=_set_of(bench, data),
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
        threshold = found.drawn(measure).graph.threshold
        view = GraphView(max(tau or 0.0, threshold), _box(viewport), community, detail)
        header, columns = graph_answer(found, measure, view)
        return Response(encode_columns({**bench.said(), **header}, columns), media_type=MEDIA_TYPE)

    @routes.get("/latent")
    def latent(part: PartId, name: LatentName, measure: Measure, tau: Tau = None) -> GraphNode:
        """A latent of a graph, and what it has edges with."""
        found = folders.of(part)[1]
        return GraphNode(**bench.said(), **latent_facts(found, measure, split_name(name), tau or 0.0))

    @routes.get("/pair")
    def pair(part: PartId, a: LatentName, b: LatentName) -> PairPage:
        """Two latents at the same tokens; either may be the upstream one."""
        return pair_page(bench, folders.of(part)[1], split_name(a), split_name(b))

    return routes


def exported_relations(bench: Workbench) -> Iterator[str]:
    """What is asked of relations by a page without a server: the graph by its first measure, whole and by community, at
    its own threshold and at steps above it."""
    folders = RelatedFolders(bench)
    for part in bench.run.parts().values():
        if part.kind not in KINDS:
            continue
        root = f"/relations/{part.id}"
        yield root
        try:
            found = folders.of(part.id)[1]
            measure = found.measures()[0]
            drawn = found.drawn(measure)
        except GossamerError:
            continue  # the page says why there is no graph
        for tau in ("", *(f"&tau={step:g}" for step in threshold_steps(drawn.graph))):
            asked = f"{root}/graph?measure={measure}{tau}&viewport={_WHOLE}"
            yield from (f"{asked}&detail={detail}" for detail in ("auto", "communities", "latents"))
            yield from (
                f"{asked}&detail=auto&community={one}" for one in range(min(len(drawn.layout.tiles), _EXPORTED))
            )


def _set_of(bench: Workbench, data: RelationsData) -> str | None:
    """The one set of the run with dictionaries of these names and widths; of several, that of the same model."""
    wanted = {one.name: one.latents for one in data.dictionaries}
    found = []
    for one in all_sets(bench.run):
        widths = {str(site): dictionary.n_latents for site, dictionary in one.shapes.items() if dictionary is not None}
        if wanted.items() <= widths.items():
            found.append(one)
    if len(found) > 1:
        found = [one for one in found if one.model is not None and same_model(one.model, data.model)]
    return found[0].part.id if len(found) == 1 else None


def _box(viewport: str) -> Box:
    try:
        left, bottom, right, top = (float(one) for one in viewport.split(","))
    except ValueError as error:
        raise UsageError(f"viewport: left,bottom,right,top expected, found {viewport!r}") from error
    return left, bottom, right, top
