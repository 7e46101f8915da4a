"""The view of explanations: what was said of which latent, how true it is, and how many answers failed."""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query

from gossamer.app.explanation_page import explanation_shape, gold_shape, scores_beside, summary_shape
from gossamer.app.schema.base import PartId
from gossamer.app.schema.explanations import (
    ComparedShape,
    ExplanationsPage,
    UsageShape,
)
from gossamer.app.workbench import Workbench
from gossamer.chat.usage import answers_usage
from gossamer.explain.records import ExplainedFeatures, ExplanationRow
from gossamer.explain.summary import no_better_than_words, summary

KIND = "explanations"


def explanation_routes(bench: Workbench) -> APIRouter:
    """GET of a study."""
    routes = APIRouter(prefix="/explanations")

    @routes.get("/{study}")
    def explanations(
        study: PartId,
        feature: Annotated[str | None, Query(max_length=60)] = None,
        q: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=2000)] = 500,
    ) -> ExplanationsPage:
        """What was said, with scores, controls and failures; of one latent, or where a row has all words of q."""
        part, said = bench.content(study, KIND)
        scored, unscored = scores_beside(bench.run, part)
        found = ExplainedFeatures.of(said, scored)
        rows = [explanation_shape(found, one) for one in found.explanations if _wanted(one, feature, q)]
        told = [one for one in found.explanations if one.explanation.text]
        usage = answers_usage(part.path.parent / "answers")
        asked = said.settings
        return ExplanationsPage(
            **bench.said(bench.run.digest(part)),
            id=part.id,
            folder=str(part.path.parent),
            model=asked["model"],
            corpus=str(asked["corpus"]),
            explainer=asked["explainer"],
            judge=asked["judge"],
            planned=len(asked["features"]),
            sentences=len(told),
            failures=len(found.explanations) - len(told),
            unscored=unscored,
            summary=[summary_shape(one) for one in summary(found)],
            gold=[gold_shape(found, judge, one) for judge, one in found.gold.items()],
            compared=[
                ComparedShape(method=method, no_better=worse, compared=count)
                for method, (worse, count) in no_better_than_words(found).items()
            ],
            usage=None if usage is None else UsageShape.model_validate(usage),
            total=len(rows),
            rows=rows[:limit],
        )

    return routes


def exported_explanations(bench: Workbench) -> Iterator[str]:
    """All of a study, and each of its latents."""
    for part in bench.run.parts().values():
        if part.kind != KIND:
            continue
        root = f"/explanations/{part.id}?q=&limit=500"
        yield root
        said = bench.run.read(part).content
        features = () if said is None else said.settings.get("features", ())
        yield from (f"{root}&{urlencode({'feature': str(feature)})}" for feature in features)


def _wanted(one: ExplanationRow, feature: str | None, q: str) -> bool:
    said = one.explanation
    if feature is not None and str(said.feature) != feature:
        return False
    whole = f"{said.feature} {said.method} {said.text} {said.failure}".lower()
    return all(word in whole for word in q.lower().split())
