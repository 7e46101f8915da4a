"""The dictionary view: the sets of a run, what is known of each dictionary, and its latents."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query

from gossamer.app.dictionary_page import controls, measured
from gossamer.app.latent_list import Asked, stored_latents, unmeasured_latents
from gossamer.app.python_calls import listing, loading, store_command
from gossamer.app.schema.base import PartId
from gossamer.app.schema.dictionaries import DictionaryPage, LatentList, Sets, Sort
from gossamer.app.sets import KINDS, FoundSet, all_sets, circuits_with, found_set, nodes_of, set_facts, why_not_live
from gossamer.app.workbench import Workbench
from gossamer.errors import GossamerError, UsageError

MOST_ROWS = 500


def dictionary_routes(bench: Workbench) -> APIRouter:
    """GET /dicts, /dicts/{d} and /dicts/{d}/latents."""
    routes = APIRouter(prefix="/dicts")

    @routes.get("")
    def sets() -> Sets:
        """All sets of dictionaries that the run holds or its circuits name."""
        return Sets(**bench.said(), sets=[set_facts(found, bench.run.path) for found in all_sets(bench.run)])

    @routes.get("/{dictionaries}")
    def page(dictionaries: PartId) -> DictionaryPage:
        """One of them; a circuit's id means those that it was made with."""
        found = found_set(bench.run, dictionaries)
        stores, facts = bench.stores.of(found), set_facts(found, bench.run.path)
        for one in facts.dictionaries:
            one.store = stores[one.site].id if one.site in stores else None
        return DictionaryPage(
            **bench.said(),
            **dict(facts),
            file=str(found.part.path),
            example=_example(found),
            python=loading(bench, found),
            live=_not_live(bench, found),
            build=None if all(one.store for one in facts.dictionaries) else store_command(bench, found),
            measured=measured(bench, found, stores),
            controls=controls(bench, found),
            circuits=circuits_with(bench.run, found),
        )

    @routes.get("/{dictionaries}/latents")
    def latents(
        dictionaries: PartId,
        site: Annotated[str, Query(max_length=40)],
        sort: Sort | None = None,
        min_density: Annotated[float, Query(ge=0, le=1)] = 0.0,
        q: Annotated[str, Query(max_length=100)] = "",
        cursor: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
    ) -> LatentList:
        """Latents of a site: from a feature store, or else what the weights say. Default: by density, or by name."""
        found = found_set(bench.run, dictionaries)
        if site not in map(str, found.shapes):
            raise UsageError(f"site: one of {', '.join(map(str, found.shapes))} expected, found {site!r}")
        part, nodes = bench.stores.of(found).get(site), nodes_of(bench.run, circuits_with(bench.run, found))
        order: Sort = sort or ("name" if part is None else "density")
        asked = Asked(site, order, min_density, q, cursor, limit)
        if part is None:
            with bench.model(found.part.id) as live:
                total, rows = unmeasured_latents(live, asked, nodes)
            text = "no text: this run has no feature store of these dictionaries"
        else:
            with bench.stores.use(part) as store:
                (total, rows), text = stored_latents(store, asked, nodes), store.text
        end = cursor + len(rows)
        return LatentList(
            **bench.said(),
            site=site,
            sort=order,
            total=total,
            cursor=cursor,
            next=end if rows and end < total else None,
            rows=rows,
            text=text,
            python=listing(bench, found, asked, part),
        )

    return routes


def exported_dictionaries(bench: Workbench) -> Iterator[str]:
    """What is asked of dictionaries without their models."""
    yield "/dicts"
    yield from (f"/dicts/{part.id}" for part in bench.run.parts().values() if part.kind in KINDS)


def _not_live(bench: Workbench, found: FoundSet) -> str | None:
    circuit = found.circuit
    if bench.offline is not None:
        return bench.offline
    if circuit is not None and (reason := why_not_live(circuit)) is not None:
        return f"the circuit's file: {reason}"
    try:
        bench.inputs(found.part.id)
    except GossamerError as error:
        return str(error)
    return None


def _example(found: FoundSet) -> str | None:
    """The first prompt of the circuit's task."""
    circuit = found.circuit
    task = None if circuit is None or circuit.inputs is None else circuit.inputs.task
    prompts = [] if task is None else task["test"]
    return "".join(piece for piece, _ in prompts[0]["clean"]) if prompts else None
