"""Views of a circuit that a reader kept in the run's folder."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as InPath

from gossamer.app.saved_view import FORMAT, SavedGroup, SavedView, read_view, view_path
from gossamer.app.schema.base import PartId
from gossamer.app.schema.views import Group, View, ViewRequest, Views
from gossamer.app.workbench import Workbench
from gossamer.errors import GossamerError, UsageError

ViewName = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def view_routes(bench: Workbench) -> APIRouter:
    """GET and PUT of views."""
    routes = APIRouter(prefix="/circuits/{circuit}/views")

    @routes.get("")
    def names(circuit: PartId) -> Views:
        """Those that were kept of this circuit."""
        digest = bench.circuit(circuit).circuit.sha256
        return Views(**bench.said(digest), names=_names(bench, digest))

    @routes.get("/{name}")
    def view(circuit: PartId, name: ViewName) -> View:
        """One of them."""
        kept = read_view(bench.views, name, bench.circuit(circuit).circuit)
        return _shape(bench, name, circuit, kept)

    @routes.put("/{name}")
    def keep(circuit: PartId, name: ViewName, given: ViewRequest) -> View:
        """Keep one; a view of that name is replaced."""
        if bench.read_only is not None:
            raise UsageError(f"views cannot be saved: {bench.read_only}")
        found = bench.circuit(circuit).circuit
        known = {str(node) for node in found.nodes}
        named = {*given.pinned, *given.labels, *(one for group in given.groups for one in group.nodes)}
        if unknown := sorted(named - known):
            raise UsageError(f"view {name}: nodes of the circuit expected, found {unknown[0]}")
        groups = tuple(SavedGroup(one.name, tuple(one.nodes)) for one in given.groups)
        kept = SavedView(found.sha256, tuple(given.pinned), groups, given.labels)
        FORMAT.save(view_path(bench.views, name), kept)
        return _shape(bench, name, circuit, kept)

    return routes


def exported_views(bench: Workbench) -> Iterator[str]:
    """What is asked of kept views."""
    for part in bench.run.parts().values():
        circuit = bench.run.read(part).content if part.kind == "circuit" else None
        if circuit is not None:
            root = f"/circuits/{part.id}/views"
            yield root
            yield from (f"{root}/{name}" for name in _names(bench, circuit.sha256))


def _names(bench: Workbench, digest: str) -> list[str]:
    """Views that were kept of a circuit."""
    found = []
    for path in sorted(bench.views.glob("*.json")):
        try:
            if FORMAT.load(view_path(bench.views, path.stem)).circuit == digest:
                found.append(path.stem)
        except GossamerError:
            continue  # damaged, or no view: the overview says so
    return found


def _shape(bench: Workbench, name: str, circuit: str, kept: SavedView) -> View:
    return View(
        **bench.said(kept.circuit),
        name=name,
        circuit=circuit,
        pinned=list(kept.pinned),
        groups=[Group(name=one.name, nodes=list(one.nodes)) for one in kept.groups],
        labels=dict(kept.labels),
    )
