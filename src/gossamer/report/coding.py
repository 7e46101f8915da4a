"""A coding study in words and tables, and as a folder."""

from collections.abc import Iterator
from pathlib import Path

from gossamer import files
from gossamer.replacement.coding_study import CodingStudy, Verdict, verdicts

PURSUITS = ("gradient", "orthogonal", "matching")
_COLUMNS = (
    ("L0", "l0", ".1f"),
    ("CE recovered", "loss_recovered", ".4f"),
    ("KL", "kl_spliced", ".4f"),
    ("explained variance", "explained_variance", ".4f"),
)


def trained_at(study: CodingStudy, name: str) -> str:
    """A dictionary by the L0 that it was trained at, where that is known and no other has it; else by its name."""
    rounded = {one: _l0(l0) for one, l0 in study.trained_l0.items()}
    if name not in rounded or list(rounded.values()).count(rounded[name]) > 1:
        return name
    return f"trained at L0 {rounded[name]}"


def headline(study: CodingStudy, method: str = "gradient") -> str:
    """Whether decoders trained at a higher L0 are better at low test L0, and by how much, in one sentence."""
    found = [verdict for verdict in verdicts(study, method) if len(_known(verdict)) > 1]
    if not found:
        return f"Ways of coding the dictionaries of {study.settings['site']}"
    own = study.trained_l0
    higher = [verdict for verdict in found if own[verdict.best] > own[verdict.own]]
    margins = [(one.recovered[one.best] or 0.0) - (one.recovered[one.own] or 0.0) for one in higher]
    return (
        f"Under {method} pursuit {len(higher)} of {len(found)} decoders are beaten at their own training L0 by one "
        f"trained at a higher L0{f', by at most {max(margins):.4f}' if margins else ''}"
    )


def sentences(study: CodingStudy) -> Iterator[str]:
    """What each pursuit says of the decoders; nothing where none can be compared with another."""
    for method in _pursuits(study):
        if any(len(_known(verdict)) > 1 for verdict in verdicts(study, method)):
            yield f"{headline(study, method)}."


def sections(study: CodingStudy) -> Iterator[tuple[str, list[list[str]]]]:
    """Decoders compared at the L0s that they were trained at, methods compared at each k, then every point: a title
    and a table, the first row its head, for each."""
    for method in _pursuits(study):
        if verdicts(study, method):
            yield f"CE recovered by {method} pursuit at each test L0", _comparison(study, method)
    yield "CE recovered at each k", _by_k(study)
    yield "Every point", _every_point(study)


def markdown(study: CodingStudy) -> str:
    """All tables."""
    return "\n\n".join(f"{title}:\n\n{table(rows)}" for title, rows in sections(study)) + "\n"


def _pursuits(study: CodingStudy) -> list[str]:
    return [method for method in PURSUITS if any(point.method == method for point in study.points)]


def _by_k(study: CodingStudy) -> list[list[str]]:
    """CE recovered: a line for each dictionary and method, a column for each k; encoders at the L0 of their choice."""
    ks = sorted({point.k for point in study.points if point.k is not None})
    rows = [["dictionary", "method", "own L0", *(f"k {k}" for k in ks)]]
    for name in study.dictionaries:
        for method in dict.fromkeys(point.method for point in study.points if point.dictionary == name):
            points = {point.k: point for point in study.curve(name, method)}
            own = points.get(None)
            alone = "" if own is None else f"{own.l0:.1f}: {own.loss_recovered:.4f}"
            cells = [f"{points[k].loss_recovered:.4f}" if k in points else "" for k in ks]
            rows.append([trained_at(study, name), method, alone, *cells])
    return rows


def _every_point(study: CodingStudy) -> list[list[str]]:
    rows = [["dictionary", "method", "k", *(title for title, _, _ in _COLUMNS)]]
    for name in study.dictionaries:
        for point in (point for point in study.points if point.dictionary == name):
            numbers = [format(getattr(point, field), form) for _, field, form in _COLUMNS]
            rows.append([name, point.method, "" if point.k is None else str(point.k), *numbers])
    return rows


def table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def write_coding(study: CodingStudy, folder: str | Path) -> Path:
    """Write tables.md, coding.png and coding.svg beside results.json; each atomically. Returns the picture's path.

    Raises:
        GossamerError: no pursuit was measured, or a folder that cannot be written.
    """
    from gossamer.report import style
    from gossamer.report.figures.coding import coding

    target = Path(folder)
    figure = style.settled(coding(study))
    files.write_text(target / "tables.md", markdown(study))
    files.write_text(target / "coding.svg", style.svg(figure))
    style.save_png(figure, target / "coding.png")
    return target / "coding.png"


def _comparison(study: CodingStudy, method: str) -> list[list[str]]:
    names = study.dictionaries
    rows = [["test L0", *(trained_at(study, name) for name in names), "best"]]
    for verdict in verdicts(study, method):
        values = [verdict.recovered.get(name) for name in names]
        cells = ["–" if value is None else f"{value:.4f}" for value in values]
        rows.append([_l0(verdict.l0), *cells, trained_at(study, verdict.best)])
    return rows


def _known(verdict: Verdict) -> list[float]:
    return [value for value in verdict.recovered.values() if value is not None]


def _l0(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:.0f}"
