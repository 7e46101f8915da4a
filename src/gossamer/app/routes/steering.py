"""The view of a sweep of steering: the report's numbers and its picture's data, for any benefit, cost and reference."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gossamer.app.run_folder import Part
from gossamer.app.schema.base import PartId
from gossamer.app.schema.curves import CurvesData
from gossamer.app.schema.steering import (
    CellShape,
    ChosenShape,
    FindingShape,
    MethodShape,
    Named,
    SweepPage,
)
from gossamer.app.workbench import Workbench
from gossamer.errors import GossamerError
from gossamer.report import text
from gossamer.report.curves_data import CONTROL, pareto_data
from gossamer.results import Record
from gossamer.steering.concept import ORIGINAL
from gossamer.steering.effects import said_of_fit
from gossamer.steering.findings import published_findings
from gossamer.steering.pareto import UNSTEERED, MethodCurve
from gossamer.steering.summary import BENEFIT_NAMES, COST_NAMES, amount, cell_intervals, cell_summaries
from gossamer.steering.sweep import SweepRow, gold_of, measured_benefits, numbers
from gossamer.steering.sweep import sweep_curves as curves_of
from gossamer.steering.vector_notes import notes_of

KIND = "steering sweep"
# Bootstraps of sweeps that are kept.
_KEPT = 32


def steering_routes(bench: Workbench) -> APIRouter:
    """GET of a sweep."""
    routes = APIRouter(prefix="/steering/sweeps")
    kept = lru_cache(_KEPT)(_page)

    @routes.get("/{sweep}")
    def sweep(
        sweep: PartId,
        benefit: Annotated[str | None, Query(max_length=40)] = None,
        cost: Annotated[str, Query(max_length=40)] = "cross_entropy",
        reference: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[float, Query(gt=0, le=100)] = 1.0,
    ) -> SweepPage:
        """What each method brings at every cost."""
        part, record = bench.content(sweep, KIND)
        # The record stands for its content: the folder reads a file that changed anew.
        found = kept(_RecordKey(record), benefit, cost, reference, limit)
        return SweepPage(**bench.said(bench.run.digest(part)), **_facts(part, record), **found)

    return routes


def exported_sweeps(bench: Workbench) -> Iterator[str]:
    """What a page without a server asks first of each of them."""
    for part in bench.run.parts().values():
        if part.kind == KIND and bench.run.read(part).content is not None:
            yield f"/steering/sweeps/{part.id}"


class _RecordKey:
    """A record as a key: one object is one content."""

    def __init__(self, record: Record[SweepRow]) -> None:
        self.record = record

    def __hash__(self) -> int:
        return id(self.record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RecordKey) and other.record is self.record


def _facts(part: Part, record: Record[SweepRow]) -> dict[str, Any]:
    asked, gold = record.settings, gold_of(record)
    return {
        "id": part.id,
        "file": str(part.path),
        "model": asked["model"],
        "sites": sorted({row.site for row in record.rows if row.site}),
        "words": list(asked["words"]),
        "prompts": [text.running(one) for one in asked["prompts"]],
        "samples": asked["sampling"]["samples"],
        "new_tokens": asked["sampling"]["max_new_tokens"],
        "neutral_tokens": sum(asked["neutral_tokens"]),
        "judge": asked["judge"],
        "judge_said": None if gold is None else gold.said,
        "done": len(record.rows),
        "planned": len(asked["cells"]),
        "costs": [Named(id=one, name=name) for one, name in COST_NAMES.items()],
        "absent": dict(notes_of(record).absent),
    }


def _page(key: _RecordKey, benefit: str | None, cost: str, reference: str | None, limit: float) -> dict[str, Any]:
    record = key.record
    measured = measured_benefits(record)
    chosen = benefit or (measured[0] if measured else "hit")
    known = [one for one in dict.fromkeys(row.method for row in record.rows) if one != UNSTEERED]
    if reference is None:
        reference = ORIGINAL if ORIGINAL in known else next((one for one in known if not one.startswith(CONTROL)), None)
    found = {
        "benefits": [Named(id=one, name=BENEFIT_NAMES[one]) for one in measured],
        "references": known,
        "benefit": chosen,
        "cost": cost,
        "reference": reference,
        "limit": limit,
    }
    cells = _cells(record, chosen, cost)
    if reference is None:
        reason = "nothing but the unsteered model was measured yet"
        return {**found, "cells": cells, "curves": None, "not_drawn": reason, "methods": [], "findings": []}
    try:
        curves = curves_of(record, reference, benefit=chosen, cost=cost, limit=limit)
    except GossamerError as error:
        if len(record.rows) == len(record.settings["cells"]):
            raise
        return {**found, "cells": cells, "curves": None, "not_drawn": str(error), "methods": [], "findings": []}
    labels = {place: amount(row) for place, row in enumerate(record.rows)}
    drawn = pareto_data(curves, reference, BENEFIT_NAMES[chosen], limit, labels, COST_NAMES[cost])
    return {
        **found,
        "cells": cells,
        "curves": CurvesData.model_validate(drawn),
        "not_drawn": None,
        "methods": [_method(one, record) for one in sorted(curves, key=lambda curve: -curve.area.value)],
        "findings": [FindingShape.model_validate(one) for one in published_findings(curves)]
        if reference == ORIGINAL
        else [],
    }


def _method(one: MethodCurve, record: Record[SweepRow]) -> MethodShape:
    notes = notes_of(record)
    fit, explained = notes.fits.get(one.method), notes.effects_explained.get(one.method)
    chosen = [
        ChosenShape(budget=at.budget, amount=amount(record.rows[at.cell]), benefit=at.benefit, cost=at.cost)  # type: ignore[arg-type]
        for at in one.chosen
    ]
    return MethodShape(
        method=one.method,
        control=one.method.startswith(CONTROL),
        area=one.area,  # type: ignore[arg-type]
        difference=one.difference,  # type: ignore[arg-type]
        improves=one.improves,
        chosen=chosen,
        cosine=None if fit is None else fit.cosine,
        auroc=None if fit is None else fit.auroc,
        explained=None if explained is None else said_of_fit(one.method, explained),
        warned=one.method in notes.warned,
    )


def _cells(record: Record[SweepRow], benefit: str, cost: str) -> list[CellShape]:
    if not record.rows:
        return []
    intervals = cell_intervals(numbers(record, benefit, cost))
    found = []
    for one, (price, gain) in zip(cell_summaries(record), intervals, strict=True):
        values = {name: getattr(one, name) for name in CellShape.model_fields if hasattr(one, name)}
        values |= {
            "benefit": gain,
            "cost": price,
            "moved": None if one.moved < 0 else one.moved,
            "examples": [text.running(example) for example in one.examples],
        }
        found.append(CellShape.model_validate(values))
    return found
