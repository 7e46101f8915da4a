"""What a study of explanations says of latents, as pages show it."""

from collections.abc import Sequence
from typing import Any

from gossamer.app.run_folder import Part, RunFolder
from gossamer.app.schema.explanations import ExplanationShape, GoldShape, ScoreShape, SummaryShape
from gossamer.explain.answers import ExplanationScore
from gossamer.explain.records import ExplainedFeatures, ExplanationRow
from gossamer.report import text
from gossamer.report.explanations import judge_said

_SCORES = "scores of explanations"


def scores_beside(run: RunFolder, part: Part) -> tuple[Any, str | None]:
    """The record of scores beside the explanations, or why there is none."""
    for other in run.parts().values():
        if other.kind == _SCORES and other.path.parent == part.path.parent:
            reading = run.read(other)
            return reading.content, reading.message
    return None, "no scores are there yet: the same command goes on and adds them"


def explanation_shape(found: ExplainedFeatures, one: ExplanationRow) -> ExplanationShape:
    """What was said of a latent, with every score."""
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
    return ScoreShape.model_validate({**values, "judge": judge, "control": control, "ability": found.ability(judge)})


def summary_shape(one: Any) -> SummaryShape:
    """The mean over latents of one explainer, judge, scorer and control."""
    return SummaryShape.model_validate({**_items(one.items), **_plain(one)})


def gold_shape(found: ExplainedFeatures, judge: str, one: ExplanationScore) -> GoldShape:
    """A judge on questions whose answers are known."""
    values = _plain(one, ("value", "low", "high", "auroc"))
    said = judge_said(found, judge)
    return GoldShape.model_validate({**values, "judge": judge, "ability": found.ability(judge), "said": said})
