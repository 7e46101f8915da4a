"""How well relations are found where they are known, as tables."""

from collections.abc import Sequence
from pathlib import Path

from gossamer import files
from gossamer.report.coding import table
from gossamer.toys.relation_scores import FindingScore, RelationScores
from gossamer.toys.relations_truth import RelationsTruth, TruthCase

# Columns of the table of cases: findings with precision and recall.
SHOWN = {
    "passed on": "passed on, mutual partner, 0.9",
    "lost in the error": "lost in the error, mutual partner, 0.9",
    "new": "new, mutual partner, 0.9",
    "gates": "all gates",
    "confirmed gates": "all gates, confirmed by ablation",
    "splits": "split (OR of downstream features, itself not passed on)",
    "merges": "merge (OR of inputs that are not passed on)",
    "edges": "edges (pearson)",
}


def truth_tables_text(truth: RelationsTruth) -> str:
    """Every finding with true dictionaries and the most tokens, then all cases, then what shuffled documents give.

    Counts are those of all seeds together, with 95 % Wilson intervals.
    """
    cases = truth.cases
    known = sorted((case for case in cases if case.dictionaries == "true"), key=lambda case: case.tokens)
    parts = ["## By tokens and dictionaries (precision / recall)", cases_table(cases)]
    if known:
        main = known[-1]
        found = cases[main][1]
        parts = [f"## True dictionaries, {main.tokens:,} tokens", scores_table(found.scores), *parts]
        parts += [f"## Shuffled documents, {main.tokens:,} tokens", _shuffled_table(found.shuffled)]
    return "\n\n".join(parts) + "\n"


def scores_table(scores: Sequence[FindingScore]) -> str:
    """Each finding with its precision and recall."""
    rows = [["finding", "right of reported", "precision", "found of planted", "recall"]]
    for one in scores:
        counts = f"{one.right:,} of {one.found:,}", f"{one.recovered:,} of {one.planted:,}"
        rows.append([one.finding, counts[0], _interval(one.precision), counts[1], _interval(one.recall)])
    return table(rows)


def cases_table(cases: dict[TruthCase, tuple[float, RelationScores]]) -> str:
    """Each case with the findings that matter most."""
    rows = [["dictionaries", "tokens", "features with a latent", *SHOWN, "communities (Rand)"]]
    for case, (share, found) in cases.items():
        cells = [f"{_short(one.precision[0])} / {_short(one.recall[0])}" for one in map(found.of, SHOWN.values())]
        rows.append([case.label, f"{case.tokens:,}", f"{share:.0%}", *cells, _short(found.communities)])
    return table(rows)


def _shuffled_table(scores: Sequence[FindingScore]) -> str:
    rows = [["finding", "reported", "of", "rate"]]
    for one in scores:
        name = one.finding.removeprefix("shuffled: ")
        rows.append([name, f"{one.found:,}", f"{one.planted:,}", _interval(one.recall, digits=4)])
    return table(rows)


def _short(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def _interval(share: tuple[float, float, float], digits: int = 2) -> str:
    if share[0] != share[0]:
        return "-"
    value, low, high = (f"{one:.{digits}f}" for one in share)
    return f"{value} [{low}, {high}]"


def write_relations_truth(truth: RelationsTruth, folder: str | Path) -> Path:
    """Write tables.md beside results.json, atomically; returns its path.

    Raises:
        GossamerError: a folder that cannot be written.
    """
    path = Path(folder) / "tables.md"
    files.write_text(path, truth_tables_text(truth))
    return path
