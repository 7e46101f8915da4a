"""The overview: what a run holds, and whether it is whole."""

from collections.abc import Iterator
from datetime import UTC, datetime

from fastapi import APIRouter

from gossamer.app.run_folder import Part, Reading, RunFolder
from gossamer.app.schema.runs import Overview, PartFacts
from gossamer.app.workbench import Workbench
from gossamer.results import versions


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
            parts=[_facts(run, part, run.checked(part)) for part in run.parts().values()],
            pages=[page.as_posix() for page in run.pages()],
            versions=versions(),
            read_only=bench.read_only,
        )

    return routes


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
        facts=[] if reading.content is None else list(reading.content._facts()),
    )
