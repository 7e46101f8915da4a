"""The dictionary view: the sets of a run, and what is known of each dictionary."""

from fastapi import APIRouter

from gossamer.app.schema.base import PartId
from gossamer.app.schema.dictionaries import DictionaryPage, Sets
from gossamer.app.sets import FoundSet, all_sets, found_set, loading, set_facts
from gossamer.app.workbench import Workbench
from gossamer.errors import GossamerError


def dictionary_routes(bench: Workbench) -> APIRouter:
    """GET /dicts and /dicts/{d}."""
    routes = APIRouter(prefix="/dicts")

    @routes.get("")
    def sets() -> Sets:
        """All sets of dictionaries that the run holds or its circuits name."""
        return Sets(**bench.said(), sets=[set_facts(found, bench.run.path) for found in all_sets(bench)])

    @routes.get("/{dictionaries}")
    def page(dictionaries: PartId) -> DictionaryPage:
        """One of them; a circuit's id means those that it was made with."""
        found = found_set(bench, dictionaries)
        return DictionaryPage(
            **bench.said(),
            **dict(set_facts(found, bench.run.path)),
            file=str(found.part.path),
            example=_example(found),
            python=loading(bench, found),
            live=_not_live(bench, found),
        )

    return routes


def _not_live(bench: Workbench, found: FoundSet) -> str | None:
    circuit = found.circuit
    if circuit is not None and (circuit.inputs is None or circuit.inputs.task is None):
        return "the circuit's file does not record what it was made with; make it again with this version"
    try:
        bench.inputs(found.part.id)
    except GossamerError as error:
        return str(error)
    return None


def _example(found: FoundSet) -> str | None:
    """The beginning of a prompt of the circuit's task."""
    circuit = found.circuit
    task = None if circuit is None or circuit.inputs is None else circuit.inputs.task
    prompts = [] if task is None else task["test"]
    return "".join(piece for piece, _ in prompts[0]["clean"]) if prompts else None
