"""The attention views: prompts taken apart, and traces."""

import re
from collections.abc import Iterator

from fastapi import APIRouter

from gossamer.app.routes.studies import drawn_pictures
from gossamer.app.schema.attention import (
    AgreementShape,
    AttentionRequest,
    AttributionPage,
    TraceNodeShape,
    TracePage,
)
from gossamer.app.schema.base import PartId
from gossamer.app.sets import all_sets, found_set
from gossamer.app.workbench import Workbench
from gossamer.attention import Limits, Question, attribution_data
from gossamer.attention.attribution_data import FORMAT, AttributionData
from gossamer.attention.tracing import TraceResult
from gossamer.errors import UsageError
from gossamer.features import Feature
from gossamer.model.names import same_model
from gossamer.report import text
from gossamer.report.attribution_page import attribution_texts
from gossamer.report.figures.trace_check import trace_check

# Tokens of a text that is taken apart at once: what is sent grows with their square.
_LONGEST = 64
# A token that begins texts, as <s>, <bos> or <|endoftext|>.
_SPECIAL = re.compile(r"<\|?[a-z_]{1,30}\|?>")


def attention_routes(bench: Workbench) -> APIRouter:
    """GET of what files hold, and texts of the reader's own."""
    routes = APIRouter()

    @routes.get("/attribution/{part}")
    def attribution(part: PartId) -> AttributionPage:
        """Prompts that were taken apart, as the explorer draws them."""
        own, found = bench.content(part, "attribution")
        return attribution_shape(bench, found, str(own.path))

    @routes.get("/traces/{part}")
    def trace(part: PartId) -> TracePage:
        """A trace as a tree, with what removing each of its parts did where that was measured."""
        own, found = bench.content(part, "trace")
        return TracePage(
            **bench.said(),
            title=found.model,
            target=text.visible(found.trace.target),
            file=str(own.path),
            prompt=list(map(text.visible, found.prompt)),
            prompts=found.prompts,
            set=_set_of(bench, found),
            text=_again(found),
            nodes=list(_nodes(found)),
            agreement=[] if found.check is None else list(_agreement(found)),
            pictures=[] if found.check is None else drawn_pictures(lambda: {"check": trace_check(found)}),
        )

    @routes.post("/dicts/{dictionaries}/attention")
    def attention(dictionaries: PartId, asked: AttentionRequest) -> AttributionPage:
        """A text of the reader's own, taken apart with its model."""
        with bench.model(found_set(bench.run, dictionaries).part.id) as live:
            length = int(live.model.tokenize([asked.text], bos=live.bos).ids.shape[1])
            if length > _LONGEST:
                raise UsageError(f"text: at most {_LONGEST} tokens expected, found {length}; longer: gossamer explore")
            feature = None if asked.feature is None else Feature.parse(asked.feature)
            question = Question(asked.text, asked.answer, asked.wrong, feature, asked.position)
            limits = Limits(latents=asked.latents)
            found = attribution_data(live.model, live.dictionaries, [question], limits=limits, bos=live.bos)
        return attribution_shape(bench, found, None)

    return routes


def _set_of(bench: Workbench, found: TraceResult) -> str | None:
    """The first set of the run of the trace's model that has a dictionary at every site of its latents."""
    sites = {node.source.site for node in found.trace.nodes if node.source.kind == "latent"}
    for one in all_sets(bench.run):
        if sites and sites <= set(one.shapes) and one.model is not None and same_model(one.model, found.model):
            return one.part.id
    return None


def _again(found: TraceResult) -> str | None:
    """The prompt without the token that begins texts; None where its tokens are not whole characters, or of a task."""
    words = found.prompt[1:] if found.prompt and _SPECIAL.fullmatch(found.prompt[0]) else found.prompt
    joined = "".join(words)
    return joined if joined and "\ufffd" not in joined else None


def exported_attention(bench: Workbench) -> Iterator[str]:
    """What is asked of the files."""
    where = {"attribution": "attribution", "trace": "traces"}
    for part in bench.run.parts().values():
        if part.kind in where:
            yield f"/{where[part.kind]}/{part.id}"


def attribution_shape(bench: Workbench, found: AttributionData, file: str | None) -> AttributionPage:
    """What the explorer draws."""
    return AttributionPage(
        **bench.said(), title=found.model, file=file, data=FORMAT.encode(found), shown=attribution_texts(found)
    )


def _nodes(found: TraceResult) -> Iterator[TraceNodeShape]:
    """Depth first, the largest child first."""
    nodes, checked = found.trace.nodes, {} if found.check is None else {one.child: one for one in found.check.edges}
    root, waiting = nodes[0].contribution, [(0, 0)]
    while waiting:
        number, depth = waiting.pop()
        node, edge = nodes[number], checked.get(number)
        heads = [abs(value) for value in node.heads]
        strongest = heads.index(max(heads)) if heads else None
        source = node.source._replace(place=None)
        place_of = node.source.place
        place = "" if place_of is None else str(place_of)
        word = text.visible(found.token(number)) if isinstance(place_of, int) and found.prompt else ""
        own = source.kind == "latent" and bool(found.prompt)
        yield TraceNodeShape(
            number=number,
            parent=node.parent,
            depth=depth,
            name=text.visible(found.trace.target) if node.parent is None else str(source),
            kind=node.source.kind,
            place=f"{place} {word}".strip(),
            contribution=node.contribution,
            share=node.share,
            share_of_root=node.contribution / root if root else None,
            head=strongest,
            head_contribution=None if strongest is None else node.heads[strongest],
            activation=node.activation,
            bias=node.bias,
            remainder=node.remainder,
            expanded=node.expanded,
            feature=str(source) if own else None,
            back=place_of - len(found.prompt) if own and isinstance(place_of, int) else None,
            predicted=None if edge is None else edge.predicted,
            frozen=None if edge is None else edge.frozen,
            live=None if edge is None else edge.live,
        )
        waiting += [(child, depth + 1) for child in reversed(found.trace.children(number))]


def _agreement(found: TraceResult) -> Iterator[AgreementShape]:
    assert found.check is not None
    for name, one in (("patterns and norms held", found.check.frozen), ("nothing held", found.check.live)):
        yield AgreementShape(name=name, value=one.value, low=one.low, high=one.high, edges=one.edges, texts=one.texts)
