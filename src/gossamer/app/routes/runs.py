"""The overview: what a run holds, and whether it is whole."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from gossamer.app.model_inputs import model_title
from gossamer.app.run_folder import Part, Reading, RunFolder
from gossamer.app.schema.runs import KindCount, ModelFacts, Overview, PartFacts
from gossamer.app.workbench import Workbench
from gossamer.display import facts_of, plural
from gossamer.model.names import same_model
from gossamer.results import Record, versions


def run_routes(bench: Workbench) -> APIRouter:
    """GET /run."""
    routes = APIRouter()

    @routes.get("/run")
    def overview() -> Overview:
        """What the run folder holds."""
        run = bench.run
        return Overview(
            **bench.said(),
            folder=str(run.path),
            models=_models(run),
            parts=[_facts(run, part, run.checked(part)) for part in run.parts().values()],
            pages=[page.as_posix() for page in run.pages()],
            versions=versions(),
            read_only=bench.read_only,
        )

    return routes


def _models(run: RunFolder) -> list[ModelFacts]:
    """Models by title: two names of one model (with and without its folder above) are one."""
    kinds: dict[str, Counter[str]] = {}
    tasks: dict[str, set[str]] = {}
    for part in run.parts().values():
        content = run.checked(part).content
        title = None if content is None else model_title(content)
        if title is None:
            continue
        name = next((one for one in kinds if same_model(one, title)), title)
        kinds.setdefault(name, Counter())[part.kind] += 1
        task = getattr(content, "task", None)
        tasks.setdefault(name, set()).update([task] if isinstance(task, str) else [])
    return [
        ModelFacts(
            name=name,
            tasks=sorted(tasks[name]),
            files=[KindCount(kind=kind, count=count) for kind, count in sorted(found.items())],
        )
        for name, found in sorted(kinds.items())
    ]


def exported_runs(bench: Workbench) -> Iterator[str]:
    """The overview."""
    yield "/run"


def _facts(run: RunFolder, part: Part, reading: Reading) -> PartFacts:
    return PartFacts(
        id=part.id,
        kind=part.kind,
        path=part.path.relative_to(run.path).as_posix(),
        bytes=part.bytes,
        modified=datetime.fromtimestamp(part.modified, UTC).isoformat(timespec="seconds"),
        state=reading.state,
        message=reading.message,
        facts=[] if reading.content is None else list(_described(reading.content)),
    )


def _described(content: Any) -> Iterator[str]:
    """What a card says of a file: its own facts; of a record, whose settings have no end, its model and size."""
    if not isinstance(content, Record):
        yield from facts_of(content)
        return
    title = model_title(content)
    if title is not None:
        yield title
    yield plural(len(content.rows), "row")
