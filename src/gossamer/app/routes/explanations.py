"""The view of explanations: what was said of which latent, how true it is, and how many answers failed."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query

from gossamer.app.run_folder import Part
from gossamer.app.schema.base import PartId
from gossamer.app.schema.explanations import (
    ComparedShape,
    ExplanationShape,
    ExplanationsPage,
    GoldShape,
    ScoreShape,
    SummaryShape,
    UsageShape,
)
from gossamer.app.workbench import Workbench
from gossamer.chat.usage import answers_usage
from gossamer.explain.answers import ExplanationScore
from gossamer.explain.records import ExplainedFeatures, ExplanationRow
from gossamer.explain.summary import no_better_than_words, summary
from gossamer.report import text

KIND, SCORES = "explanations", "scores of explanations"


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
        scored, unscored = _scores(bench, part)
        found = ExplainedFeatures.of(said, scored)
        rows = [_row(found, one) for one in found.explanations if _wanted(one, feature, q)]
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
            summary=[SummaryShape.model_validate({**_items(one.items), **_plain(one)}) for one in summary(found)],
            gold=[_gold(found, judge, one) for judge, one in found.gold.items()],
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
        features = () if said is None else said.settings["features"]
        yield from (f"{root}&{urlencode({'feature': str(feature)})}" for feature in features)


def _scores(bench: Workbench, part: Part) -> tuple[Any, str | None]:
    """The record of scores beside the explanations, or why there is none."""
    for other in bench.run.parts().values():
        if other.kind == SCORES and other.path.parent == part.path.parent:
            reading = bench.run.read(other)
            return reading.content, reading.message
    return None, "no scores are there yet: the same command goes on and adds them"


def _wanted(one: ExplanationRow, feature: str | None, q: str) -> bool:
    said = one.explanation
    if feature is not None and str(said.feature) != feature:
        return False
    whole = f"{said.feature} {said.method} {said.text} {said.failure}".lower()
    return all(word in whole for word in q.lower().split())


def _row(found: ExplainedFeatures, one: ExplanationRow) -> ExplanationShape:
    said = one.explanation
    scores = [
        _score(found, row.judge, row.control, score)
        for row in found.scores_of(said.feature, said.method)
        for score in row.scores
    ]
    return ExplanationShape(
        feature=str(said.feature),
        method=said.method,
        model=said.model,
        text=text.running(said.text),
        failure=said.failure,
        active=one.active,
        saved=one.saved,
        kind=one.kind,
        scores=scores,
    )


def _items(counts: Any) -> dict[str, int]:
    return {name: getattr(counts, name) for name in ("right", "wrong", "unparsed", "error")}


def _plain(one: Any, names: Sequence[str] = tuple(SummaryShape.model_fields)) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names if hasattr(one, name)}


def _score(found: ExplainedFeatures, judge: str, control: str, one: ExplanationScore) -> ScoreShape:
    values = _plain(one, tuple(ScoreShape.model_fields)) | _items(one.items)
    return ScoreShape.model_validate(
        {**values, "judge": judge, "control": control, "at_chance": found.at_chance(judge)}
    )


def _gold(found: ExplainedFeatures, judge: str, one: ExplanationScore) -> GoldShape:
    values = _plain(one, ("value", "low", "high", "auroc"))
    return GoldShape.model_validate({**values, "judge": judge, "at_chance": found.at_chance(judge)})
