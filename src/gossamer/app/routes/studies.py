"""Studies as their reports have them: what was found in words, tables and pictures."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter
from matplotlib.figure import Figure

from gossamer.app.run_folder import Part
from gossamer.app.schema.base import PartId, Table
from gossamer.app.schema.studies import Picture, StudiedCircuit, StudyPage
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.attention.ioi.results import IOIStudy
from gossamer.circuits.adversarial.seeds import FORMAT as SEEDS
from gossamer.circuits.adversarial.seeds import SeedStudy
from gossamer.circuits.task_metrics import BEYOND
from gossamer.circuits.task_study import TaskStudy
from gossamer.relations import RelationStudy
from gossamer.replacement.coding_study import load_study
from gossamer.report import adversarial, coding, ioi, recipe_comparison, relation_study, style, task_study
from gossamer.report.figures.coding import pictures as coding_pictures
from gossamer.report.figures.ioi import pictures as ioi_pictures
from gossamer.report.figures.relation_study import pictures as relation_pictures
from gossamer.report.figures.task_study import pictures as task_pictures
from gossamer.training.recipe_comparison.results import RecipeComparison

# matplotlib's settings belong to the whole process.
_DRAWING = threading.Lock()
# Studies whose pictures are kept.
_KEPT = 16
_TITLES = {
    "heads": "Heads patched from the swapped prompt",
    "noising": "What changed prompts keep",
    "latents": "Latents at the second mention",
    "scores": "What pairs of latents explain of a head's score",
    "check": "Predicted and measured",
    "gates": "The strongest gates, and the same on other text",
    "communities": "Communities by size, and by chance",
    "effects": "What ablating does, by similarity",
    "sizes": "Faithfulness by circuit size, beside the baselines",
    "coding": "Cross-entropy recovered by ways of coding",
    "improvements": "Changes to the recipe",
    "dead-latents": "What is done about dead latents",
}


class _Report(NamedTuple):
    """How a kind of study is read from its file, and what its report says of it.

    Attributes:
        parts: what is done, by name.
        title: of what it is a study.
        notes: how a table is to be read, by its title.
        footnote: what the mark BEYOND says wherever it is in a table.
    """

    load: Callable[[Path], Any]
    parts: Callable[[Any], Iterable[str]]
    sentences: Callable[[Any], Iterable[str]]
    sections: Callable[[Any], Iterable[tuple[str, list[list[str]]]]]
    pictures: Callable[[Any], Mapping[str, Figure]] = lambda found: {}
    title: Callable[[Any], str] = lambda found: str(found.settings.get("model", ""))
    notes: Mapping[str, str] = {}
    footnote: str = ""

    def table(self, title: str, rows: list[list[str]]) -> Table:
        """A section as the page has it; `rows` begin with the names of the columns."""
        marked = any(BEYOND in cell for row in rows[1:] for cell in row)
        return Table(
            title=title,
            columns=rows[0],
            rows=[[*row] for row in rows[1:]],
            note=self.notes.get(title, ""),
            footnote=self.footnote if marked else "",
        )


_REPORTS = {
    "IOI study": _Report(
        lambda path: IOIStudy.load(path.parent), lambda found: found.parts, ioi.sentences, ioi.sections, ioi_pictures
    ),
    "study of relations": _Report(
        lambda path: RelationStudy.load(path.parent),
        lambda found: found.parts,
        relation_study.sentences,
        relation_study.sections,
        relation_pictures,
    ),
    "study of circuits": _Report(
        lambda path: TaskStudy.load(path.parent),
        lambda found: [task.name for task in found.tasks],
        task_study.sentences,
        task_study.sections,
        task_pictures,
        notes={
            task_study.KEPT: task_study.HELD_OUT,
            task_study.RELIED_ON: task_study.RELIED_ON_NOTE,
            task_study.UNSEEN: task_study.SET_ASIDE,
            task_study.BESIDE: task_study.COUNTED,
            task_study.EACH: task_study.YARDSTICK,
        },
        footnote=task_study.MARKED,
    ),
    "study of encoders": _Report(
        lambda path: load_study(path.parent),
        lambda found: found.dictionaries,
        coding.sentences,
        coding.sections,
        coding_pictures,
        lambda found: f"{found.settings.get('model', '')} at {found.settings.get('site', '')}",
    ),
    "comparison of recipes": _Report(
        RecipeComparison.load,
        lambda found: dict.fromkeys(one.variant for one in found.trained),
        recipe_comparison.sentences,
        recipe_comparison.sections,
        recipe_comparison.pictures,
        lambda found: f"{found.model} at {found.site}",
    ),
    "adversarial prompts of several seeds": _Report(
        lambda path: SeedStudy(SEEDS.load(path).rows),
        lambda found: [f"seed {one.settings['seed']}" for one in found.results],
        adversarial.seed_sentences,
        adversarial.seed_sections,
        title=lambda found: found.results[0].model if found.results else "",
    ),
}


def study_routes(bench: Workbench) -> APIRouter:
    """GET of a study."""
    routes = APIRouter()
    drawn: dict[tuple[str, float], list[Picture]] = {}

    def pictures(own: Part, draw: Callable[[], Mapping[str, Figure]]) -> list[Picture]:
        """Drawn once as long as the study's files stay as they are: they take seconds."""
        key = (own.id, max(path.stat().st_mtime for path in own.path.parent.glob("*.json")))
        if key not in drawn:
            if len(drawn) >= _KEPT:
                drawn.pop(next(iter(drawn)))
            drawn[key] = drawn_pictures(draw)
        return drawn[key]

    @routes.get("/studies/{part}")
    def study(part: PartId) -> StudyPage:
        """What a study found so far: parts that are not done are left out."""
        own = bench.run.part(part)
        if own is None or own.kind not in _REPORTS:
            raise UnknownError(f"study {part!r}: not in {bench.run.name}, or of a kind that has no page")
        report = _REPORTS[own.kind]
        found = report.load(own.path)
        return StudyPage(
            **bench.said(),
            title=report.title(found),
            kind=own.kind,
            file=str(own.path),
            parts=list(report.parts(found)),
            sentences=list(report.sentences(found)),
            tables=[report.table(title, rows) for title, rows in report.sections(found)],
            pictures=pictures(own, lambda: report.pictures(found)),
            circuits=list(_circuits(bench, own, found)),
        )

    return routes


def _circuits(bench: Workbench, own: Part, found: Any) -> Iterator[StudiedCircuit]:
    """The circuits of a study's tasks that are in the run."""
    if isinstance(found, TaskStudy):
        known = {part.path: part.id for part in bench.run.parts().values() if part.kind == "circuit"}
        for task in found.tasks:
            path = own.path.parent / task.folder / "circuit.json"
            if path in known:
                yield StudiedCircuit(task=task.name, circuit=known[path])


def exported_studies(bench: Workbench) -> Iterator[str]:
    """What is asked of studies."""
    yield from (f"/studies/{part.id}" for part in bench.run.parts().values() if part.kind in _REPORTS)


def drawn_pictures(draw: Callable[[], Mapping[str, Figure]]) -> list[Picture]:
    """Pictures of a report as SVG."""
    with _DRAWING:
        svgs = {name: style.svg(style.settled(one)) for name, one in draw().items()}
    return [Picture(name=name, title=_TITLES.get(name, name), svg=one) for name, one in svgs.items()]
