"""A study as files of others: Neuronpedia's upload form, delphi's JSON, CSV, and the store itself."""

import csv
import io
import re
from dataclasses import astuple
from pathlib import Path
from typing import Any

from gossamer import files
from gossamer.errors import UsageError
from gossamer.explain.explainers import LONGEST, Explanation
from gossamer.explain.records import ExplainedFeatures, ScoreRow
from gossamer.features.dashboards import neuronpedia_uploads
from gossamer.features.feature import Feature
from gossamer.store.feature_store import FeatureStore

_COLUMNS = ("feature", "method", "model", "text", "failure", "judge", "control", "scorer", "value", "low", "high")
_COUNTS = ("auroc", "right", "wrong", "unparsed", "error", "worst", "best", "reason")


def write_csv(found: ExplainedFeatures, path: str | Path) -> Path:
    """A row a score; an explanation without scores, or a failure, has one row of its own."""
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow((*_COLUMNS, *_COUNTS))
    scored = {(row.explanation.feature, row.explanation.method) for row in found.scores}
    for row in found.scores:
        for one in row.scores:
            area = None if one.auroc is None else one.auroc.value
            values = (row.judge, row.control, one.scorer, one.value, one.low, one.high, area)
            rest = (*astuple(one.items), one.worst, one.best, one.reason)
            table.writerow((*_said(row.explanation), *values, *rest))
    for said in found.explanations:
        if (said.explanation.feature, said.explanation.method) not in scored:
            table.writerow((*_said(said.explanation), *("",) * (len(_COLUMNS) + len(_COUNTS) - 5)))
    return files.write_text(path, lines.getvalue())


def _said(one: Explanation) -> tuple[str, ...]:
    return str(one.feature), one.method, one.model, one.text, one.failure


def read_texts(path: str | Path) -> dict[Feature, str]:
    """Sentences of people: a CSV file with the columns feature and text.

    Raises:
        UsageError: other columns, no feature, or one that is told twice.
    """
    rows = list(csv.DictReader(io.StringIO(files.read_text(path, "CSV"))))
    if not rows or not {"feature", "text"} <= set(rows[0]):
        found = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise UsageError(f"{path}: CSV with the columns feature and text expected, found {found}")
    texts: dict[Feature, str] = {}
    for row in rows:
        feature, text = Feature.parse(row["feature"] or ""), (row["text"] or "").strip()
        if feature in texts or not text:
            raise UsageError(f"{path}: one text a feature expected, found {text!r} for {feature}")
        texts[feature] = text
    return texts


def write_neuronpedia(
    found: ExplainedFeatures, store: FeatureStore, folder: str | Path, model_id: str, source: str
) -> list[Path]:
    """Bodies of Neuronpedia's upload-batch, 128 features each: explanations, examples, density, words.

    Args:
        found: the study; its explanations of one site.
        store: for cards.
        folder: for upload-0.json and so on.
        model_id, source: as Neuronpedia names them.

    Raises:
        UsageError: features of several sites, or none explained.
    """
    told: dict[Feature, list[Explanation]] = {}
    for row in found.explanations:
        if row.explanation.text:
            told.setdefault(row.explanation.feature, []).append(row.explanation)
    if len({one.site for one in told}) != 1:
        raise UsageError(f"Neuronpedia: explained features of one site expected, found {len(told)} of other sites")
    said = {
        feature: [
            {"text": neuronpedia_text(one), "methodName": one.method.lower(), "modelName": one.model.lower() or None}
            for one in found
        ]
        for feature, found in told.items()
    }
    bodies = neuronpedia_uploads(store.cards(told).values(), model_id, source, said)
    return [files.write_json(Path(folder) / f"upload-{number}.json", body) for number, body in enumerate(bodies)]


def neuronpedia_text(one: Explanation) -> str:
    """An explanation's text, which Neuronpedia takes up to 512 characters of; a longer rule is cut and says so."""
    if len(one.text) <= LONGEST:
        return one.text
    return f"{one.text[: LONGEST - 2]} …"


def write_delphi(found: ExplainedFeatures, folder: str | Path) -> list[Path]:
    """explanations/METHOD/SITE_latentN.txt and scores/METHOD/SCORER/SITE_latentN.txt, as delphi names them.

    An explanation is a JSON string; scores are lists of items with what was true and what was said, as delphi's own
    analysis reads them. Texts are left out: the store has them.
    """
    written = []
    for row in found.explanations:
        one = row.explanation
        if one.text:
            name = f"{one.feature.site}_latent{one.feature.latent}.txt"
            written.append(files.write_json(Path(folder) / "explanations" / _plain(one.method) / name, one.text))
    for scored in found.scores:
        if not scored.control:
            written += _delphi_scores(scored, Path(folder) / "scores")
    return written


def _delphi_scores(row: ScoreRow, folder: Path) -> list[Path]:
    name = f"{row.explanation.feature.site}_latent{row.explanation.feature.latent}.txt"
    path = folder / _plain(f"{row.explanation.method}-{row.judge}")
    return [
        files.write_json(path / one.scorer / name, [_delphi_item(letter) for letter in one.outcomes])
        for one in row.scores
        if one.outcomes
    ]


def _delphi_item(letter: str) -> dict[str, Any]:
    active, right = letter in "AaUE", letter in "AS"
    said = None if letter in "UuEe" else float(active == right)
    correct = None if said is None else right
    return {"str_tokens": [], "activating": active, "prediction": said, "correct": correct, "probability": None}


def _plain(name: str) -> str:
    """A name as a folder may have it: names of models hold slashes."""
    return re.sub(r"[^\w.-]+", "--", name) or "none"


def keep_in_store(found: ExplainedFeatures, store: FeatureStore, method: str, scorer: str = "detection") -> int:
    """Put one method's explanations, with one scorer's values, into the store they came from. Returns how many.

    Where several judges scored, the one that understands sentences counts: the language model.

    Raises:
        UsageError: no explanation by that method, or another store.
    """
    told = {
        row.explanation.feature: row.explanation
        for row in found.explanations
        if row.explanation.text and row.explanation.method == method
    }
    if not told:
        methods = sorted({row.explanation.method for row in found.explanations if row.explanation.text})
        raise UsageError(f"explanations by {method} expected, found {', '.join(methods) or 'none'}")
    scores: dict[Feature, float] = {}
    for row in sorted(found.scores, key=lambda row: row.judge != "rule"):
        one = row.score(scorer)
        if row.explanation.method == method and not row.control and one is not None and one.value is not None:
            scores[row.explanation.feature] = one.value
    store.explain({feature: one.text for feature, one in told.items()}, method, scores=scores, scorer=scorer)
    return len(told)
