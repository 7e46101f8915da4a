"""A study of explanations as tables and a picture."""

from collections.abc import Sequence
from pathlib import Path

from gossamer import files
from gossamer.chat.chat import Ability
from gossamer.explain.records import RULE, ExplainedFeatures, ScoreRow
from gossamer.explain.summary import SummaryLine, no_better_than_words, summary
from gossamer.features.feature import Feature
from gossamer.report import style
from gossamer.report.coding import table
from gossamer.report.figures.explanations import explanation_scores

# Features that are listed.
_LISTED = 40


def write_explanations(
    found: ExplainedFeatures, folder: str | Path, random_weights: ExplainedFeatures | None = None
) -> Path:
    """Write explanations.md, explanations.png and .svg; each atomically. Returns the table's path.

    Raises:
        GossamerError: a folder that cannot be written.
    """
    target, lines = Path(folder), summary(found, random_weights)
    if any(line.mean is not None for line in lines):
        figure = style.settled(explanation_scores(lines))
        files.write_text(target / "explanations.svg", style.svg(figure))
        style.save_png(figure, target / "explanations.png")
    return files.write_text(target / "explanations.md", markdown(found, lines))


def markdown(found: ExplainedFeatures, lines: Sequence[SummaryLine]) -> str:
    """Means with controls, judges on gold items, who is no better than a word list, then features."""
    parts = [scores_table(lines)]
    parts += [judge_said(found, name) for name in found.gold]
    for method, (no_better, count) in no_better_than_words(found).items():
        parts.append(f"{method}: no better than a word list at {no_better} of {count} features.")
    failed = [row.explanation for row in found.explanations if not row.explanation.text]
    if failed:
        parts.append(f"{len(failed)} without an explanation; the first: {failed[0].feature}, {failed[0].failure}.")
    return "\n\n".join([*parts, features_table(found)]) + "\n"


def judge_said(found: ExplainedFeatures, judge: str) -> str:
    """What a judge made of questions whose answers are known, and what that means for its scores."""
    gold, ability = found.gold[judge], found.ability(judge)
    if ability is Ability.UNANSWERED:
        counts = gold.items
        return (
            f"{judge} did not answer questions whose answers are known: {counts.unparsed} of {counts.total} answers "
            f"could not be read, {counts.error} did not come. Its means are not given: see to the server, the model's "
            "name and its chat template, and run it again into another folder."
        )
    value = f"{gold.value or 0:.3f} [{gold.low or 0:.3f}, {gold.high or 0:.3f}]"
    area = "" if gold.auroc is None else f", AUROC {gold.auroc}"
    ranks = "" if ability is Ability.ABLE else " That is chance, or not far enough from it: its means are not given."
    return f"{judge} on questions whose answers are known: balanced accuracy {value}{area}.{ranks}"


def scores_table(lines: Sequence[SummaryLine]) -> str:
    """A row a method, judge and scorer: mean over features with its interval, and how many failed."""
    rows = [["explained by", "judged by", "scorer", "control", "mean [95 %]", "features", "unscored", "failures"]]
    for one in lines:
        counts = [str(one.scored), str(one.unscored), f"{one.failures:.1%}"]
        rows.append([one.method, one.judge, one.scorer, one.control, one.said, *counts])
    return table(rows)


def features_table(found: ExplainedFeatures) -> str:
    """The first features with what is said of them."""
    rows = [["feature", "by", "says", "bits saved", "detection", "detection, hard"]]
    scores: dict[tuple[Feature, str], ScoreRow] = {}
    for row in found.scores:
        if found.able(row.judge) and not row.control:
            # Of a rule, what its follower says comes before what a language model makes of it.
            scores.setdefault((row.explanation.feature, row.explanation.method), row)
    for said in found.explanations[:_LISTED]:
        one = said.explanation
        scored = scores.get((one.feature, one.method))
        values = [
            "-"
            if scored is None or (score := scored.score(name)) is None or score.value is None
            else f"{score.value:.3f}"
            for name in ("detection", "detection_hard")
        ]
        text = (one.text or f"({one.failure})").replace("|", "\\|").replace("\n", " ")
        saved = "" if said.saved is None else f"{said.saved:.0%}"
        rows.append([str(one.feature), one.method or RULE, text[:120], saved, *values])
    return table(rows)
