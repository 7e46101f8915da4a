"""Two circuits, or two dictionaries, side by side."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from gossamer.app.compare import dictionary_facts, load_dictionary, match_facts, overlap_facts
from gossamer.app.python_calls import matching, overlapping
from gossamer.app.schema.base import PartId
from gossamer.app.schema.compare import CircuitComparison, DictionaryComparison
from gossamer.app.sets import FoundSet, found_set
from gossamer.app.workbench import Workbench
from gossamer.features.matching import SAME, LatentMatches, match_latents

SiteName = Annotated[str, Query(max_length=40)]
# Matches that are kept: each takes some seconds of a wide dictionary.
_KEPT = 8


def compare_routes(bench: Workbench) -> APIRouter:
    """GET /compare/circuits and /compare/dictionaries."""
    routes = APIRouter(prefix="/compare")
    matches: dict[tuple[object, ...], LatentMatches] = {}

    @routes.get("/circuits")
    def circuits(a: PartId, b: PartId) -> CircuitComparison:
        """What two circuits have in common, beside what chance would give."""
        one, other = bench.circuit(a), bench.circuit(b)
        facts = overlap_facts(one, other, _candidates(found_set(bench.run, a), one.circuit.roles))
        return CircuitComparison(**bench.said(), **facts, python=overlapping(one.part, other.part))

    @routes.get("/dictionaries")
    def dictionaries(
        a: PartId,
        b: PartId,
        site_a: SiteName,
        site_b: SiteName,
        order: Literal["best", "worst"] = "best",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> DictionaryComparison:
        """Each latent of one dictionary with the nearest of the other, beside a control."""
        one, other = found_set(bench.run, a), found_set(bench.run, b)
        with bench.live.turn():
            left, right = load_dictionary(one, site_a), load_dictionary(other, site_b)
            key = (one.part.path, one.part.modified, site_a, other.part.path, other.part.modified, site_b)
            if key not in matches:
                if len(matches) >= _KEPT:
                    matches.pop(next(iter(matches)))
                matches[key] = match_latents(left, right)
        return DictionaryComparison(
            **bench.said(),
            a=dictionary_facts(one, site_a, left),
            b=dictionary_facts(other, site_b, right),
            same=SAME,
            **match_facts(matches[key], (site_a, site_b), limit, order == "worst"),
            python=matching((one, site_a), (other, site_b)),
        )

    return routes


def _candidates(found: FoundSet, roles: tuple[str | None, ...]) -> int | None:
    """Nodes that could be in a circuit; None where a dictionary's size is not known."""
    sizes = [None if one is None else one.n_latents for one in found.shapes.values()]
    known = [size for size in sizes if size is not None]
    return sum(known) * max(len(roles), 1) if len(known) == len(sizes) else None
