"""Studies as their reports have them: what was found in words, tables and pictures."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter
from matplotlib.figure import Figure

from gossamer.app.schema.base import PartId, Table
from gossamer.app.schema.studies import Picture, StudyPage
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.attention.ioi.results import IOIStudy
from gossamer.relations import RelationStudy
from gossamer.report import ioi, relation_study, style
from gossamer.report.figures.ioi import pictures as ioi_pictures
from gossamer.report.figures.relation_study import pictures as relation_pictures

# matplotlib's settings belong to the whole process.
_DRAWING = threading.Lock()
_TITLES = {
    "heads": "Heads patched from the swapped prompt",
    "noising": "What changed prompts keep",
    "latents": "Latents at the second mention",
    "scores": "What pairs of latents explain of a head's score",
    "check": "Predicted and measured",
    "gates": "The strongest gates, and the same on other text",
    "communities": "Communities by size, and by chance",
    "effects": "What ablating does, by similarity",
}


class _Report(NamedTuple):
    """How a kind of study is read from its folder, and what its report says of it."""

    load: Callable[[Path], Any]
    sentences: Callable[[Any], Iterator[str]]
    sections: Callable[[Any], Iterator[tuple[str, list[list[str]]]]]
    pictures: Callable[[Any], Mapping[str, Figure]]


_REPORTS = {
    "IOI study": _Report(IOIStudy.load, ioi.sentences, ioi.sections, ioi_pictures),
    "study of relations": _Report(
        RelationStudy.load, relation_study.sentences, relation_study.sections, relation_pictures
    ),
}


def study_routes(bench: Workbench) -> APIRouter:
    """GET of a study."""
    routes = APIRouter()

    @routes.get("/studies/{part}")
    def study(part: PartId) -> StudyPage:
        """What a study found so far: parts that are not done are left out."""
        own = bench.run.part(part)
        if own is None or own.kind not in _REPORTS:
            raise UnknownError(f"study {part!r}: not in {bench.run.name}, or of a kind that has no page")
        report = _REPORTS[own.kind]
        found = report.load(own.path.parent)
        return StudyPage(
            **bench.said(),
            title=str(found.settings.get("model", "")),
            kind=own.kind,
            file=str(own.path),
            parts=list(found.parts),
            sentences=list(report.sentences(found)),
            tables=[
                Table(title=title, columns=rows[0], rows=[[*row] for row in rows[1:]])
                for title, rows in report.sections(found)
            ],
            pictures=drawn_pictures(lambda: report.pictures(found)),
        )

    return routes


def exported_studies(bench: Workbench) -> Iterator[str]:
    """What is asked of studies."""
    yield from (f"/studies/{part.id}" for part in bench.run.parts().values() if part.kind in _REPORTS)


def drawn_pictures(draw: Callable[[], Mapping[str, Figure]]) -> list[Picture]:
    """Pictures of a report as SVG."""
    with _DRAWING:
        svgs = {name: style.svg(style.settled(one)) for name, one in draw().items()}
    return [Picture(name=name, title=_TITLES.get(name, name), svg=one) for name, one in svgs.items()]
