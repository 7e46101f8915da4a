"""A circuit in the formats of other programs, as a file to keep."""

import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from gossamer.app.saved_view import read_view
from gossamer.app.schema.base import PartId
from gossamer.app.workbench import Workbench
from gossamer.circuits.export import graph_beside
from gossamer.report.circuit_export import FORMATS, export_circuit, zipped

FormatName = Literal["neuronpedia", "circuit-tracer", "graphml", "svg", "html"]
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file; a folder as a ZIP archive.", "content": {"application/octet-stream": {}}}
}


def export_routes(bench: Workbench) -> APIRouter:
    """GET of a file."""
    routes = APIRouter(prefix="/circuits/{circuit}/export")

    @routes.get("", response_class=Response, responses=_ANSWER)
    def export(
        circuit: PartId,
        format: FormatName,
        prompt: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        view: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = None,
    ) -> Response:
        """The circuit in a format; a graph is of a held-out prompt, for which the model is asked but for the first."""
        found = bench.circuit(circuit)
        marks = None if view is None else read_view(bench.views, view, found.circuit).marks()

        def graph() -> dict[str, Any]:
            known = graph_beside(found.circuit, found.part.path.parent) if prompt == 0 else None
            if known is not None:
                return known
            with bench.restored(circuit) as restored:
                return restored.graph(prompt)

        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{found.circuit.task}-{format}").strip("-.")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / f"{name}{FORMATS[format].ending}"
            export_circuit(format, target, found.circuit, found.findings, graph, marks)
            content = zipped(target) if target.is_dir() else target.read_bytes()
            named = f"{target.name}.zip" if target.is_dir() else target.name
        said = {"content-disposition": f'attachment; filename="{named}"'}
        return Response(content, media_type=FORMATS[format].media, headers=said)

    return routes
