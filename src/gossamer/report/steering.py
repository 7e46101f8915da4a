"""A sweep of steering as tables, a picture and a folder."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from gossamer import files
from gossamer.chat.chat import Ability
from gossamer.report import html, style
from gossamer.report.coding import table
from gossamer.report.curves_data import pareto_data
from gossamer.report.figures.steering import steering_pareto
from gossamer.results import Record
from gossamer.steering.agreement import judged_examples
from gossamer.steering.effects import said_of_fit
from gossamer.steering.findings import published_findings
from gossamer.steering.pareto import MethodCurve
from gossamer.steering.selection import SelectionScores
from gossamer.steering.summary import BENEFIT_NAMES, amount, cell_summaries
from gossamer.steering.sweep import SweepRow, gold_of, measured_benefits, sweep_curves
from gossamer.steering.vector_notes import notes_of


def curves_table(
    curves: Sequence[MethodCurve], record: Record[SweepRow], reference: str, warned: Collection[str] = ()
) -> str:
    """Areas with intervals, whether a method improves on the reference, and what a coefficient that was chosen on one
    half of prompts and text brings and costs on the other. Methods that are warned of have a mark."""
    budgets = [one.budget for one in curves[0].chosen] if curves else []
    head = ["method", "area", f"less {reference}", "improves"]
    rows = [[*head, *(f"benefit at <= {budget:g} nats (coefficient, cost)" for budget in budgets)]]
    for one in sorted(curves, key=lambda curve: -curve.area.value):
        cells = [_interval(one.area), _interval(one.difference), "yes" if one.improves else "no"]
        for chosen in one.chosen:
            row = record.rows[chosen.cell]
            cells.append(f"{_interval(chosen.benefit)} ({amount(row) or row.method}, {chosen.cost.value:.3f})")
        rows.append([f"{one.method} (!)" if one.method in warned else one.method, *cells])
    return table(rows) + "\n"


def cells_table(record: Record[SweepRow]) -> str:
    """Every cell: strength in three units, benefits, costs, degeneracy."""
    tasks = record.settings["tasks"]
    head = ["method", "coefficient", "raw", "norm ratio", "activation", "hit", "words", "classified", "CE", "KL"]
    rows = [[*head, "changed", "log p", "distinct-2", "repeated-4", "zlib", "off-target", "moved", *tasks, "judged"]]
    for one in cell_summaries(record):
        classified = "-" if one.classified is None else f"{one.classified:.3f}"
        costs = [one.cross_entropy, one.kl, one.changed]
        wrote = [one.log_probability, one.distinct_2, one.repeated_4, one.zlib_ratio]
        judged, by = "-", one.judged
        if by is not None:
            judged = f"{by.score:.3f} of {by.rated} ({by.unparsed} unparsed, {by.error} errors)"
        strength = [one.amount, f"{one.raw:.4g}", f"{one.relative_norm:.3f}"]
        shown = [f"{one.hit:.3f}", f"{one.words:.3f}", classified] + [f"{value:.3f}" for value in (*costs, *wrote)]
        moved = "-" if one.moved < 0 else str(one.moved)
        more = [f"{one.off_target:.4g}", moved, *(f"{one.accuracy[name]:.3f}" for name in tasks), judged]
        rows.append([one.method, *strength, f"{one.activation:.4g}", *shown, *more])
    return table(rows) + "\n"


def findings_table(curves: Sequence[MethodCurve]) -> str:
    """The published findings, each with the difference in area that it is about and what that says."""
    rows = [["published finding", "method", "difference in area", "here"]]
    for one in published_findings(curves):
        rows.append([one.claim, one.method, "-" if one.difference is None else _interval(one.difference), one.verdict])
    return table(rows) + "\n"


def selection_table(scores: Sequence[SelectionScores], record: Record[SweepRow]) -> str:
    """Input score, both output scores and change of confidence, by falling output score, with the methods that push
    along the feature: random ones among them."""
    used: dict[str, dict[str, None]] = {}
    for row in record.rows:
        used.setdefault(row.feature, {})[row.method] = None
    rows = [["feature", "input score", "output score", "output score, first token", "confidence", "writes", "method"]]
    for one in sorted(scores, key=lambda score: -score.output_score):
        reads = "-" if one.input_score is None else f"{one.input_score:.2f}"
        numbers = [f"{one.output_score:.3f}", f"{one.output_score_top1:.3f}", f"{one.confidence_change:+.2f}"]
        feature = str(one.feature)
        words = " ".join(word.strip() for word in one.lens).replace("|", "\\|")
        rows.append([feature, reads, *numbers, words, ", ".join(used.get(feature, ()))])
    return table(rows) + "\n"


def judge_lines(record: Record[SweepRow], seed: int = 0) -> list[str]:
    """How many completions a judge rated, and ten of them beside the words of the concept; nothing without a judge."""
    judged = [row.judged for row in record.rows if row.judged is not None]
    if not judged:
        return []
    rated, unparsed, error = (sum(getattr(one, name) for one in judged) for name in ("rated", "unparsed", "error"))
    shown = judged_examples(record, seed=seed)
    said = (
        f"{record.settings['judge']}: {rated} completions rated, {unparsed} with an answer that could not be read, "
        f"{error} without one. On these {len(shown)} it finds the concept where the list of words does "
        f"{sum(one.agrees for one in shown)} times."
    )
    gold = gold_of(record)
    said += "" if gold is None else f" Whether texts of people have the concept: {gold.said}."
    if (gold is None or gold.ability is Ability.ABLE) and "judged" not in measured_benefits(record):
        said += " More than a fifth of a cell's completions have no rating: the judge ranks nothing."
    rows = [["completion", "word of the list", "concept rating"]]
    rows += [[repr(one.text).replace("|", "\\|"), "yes" if one.listed else "no", f"{one.concept:g}"] for one in shown]
    return ["", "## The judge", "", said, "", table(rows)]


def write_steering(
    record: Record[SweepRow],
    folder: str | Path,
    reference: str,
    *,
    benefit: str = "hit",
    limit: float = 1.0,
    scores: Sequence[SelectionScores] = (),
    seed: int = 0,
) -> Path:
    """Write steering.md (areas, published findings, selection scores, the judge, cells, examples), steering.html (the
    curves, to be walked through), pareto.png and .svg to a folder, each atomically. Returns the picture.

    Where a method's vector rests on a fit of effects that predicts nothing, the page warns of the method, and its rows
    have a mark.

    Args:
        reference: the method that others are held against.
        benefit: of the picture; the tables have all that were measured.
        scores: of features before the sweep, those of the random ones behind them.

    Raises:
        GossamerError: a folder that cannot be written.
    """
    target, notes = Path(folder), notes_of(record)
    fitted, warned = notes.effects_explained, notes.warned
    said = {name: said_of_fit(name, explained) for name, explained in fitted.items()}
    parts = ["Areas and chosen coefficients with 95 % intervals."]
    if fitted:
        parts += ["", *(f"- **{said[name]}** (!)" if name in warned else f"- {said[name]}" for name in fitted)]
    measured = {
        name: sweep_curves(record, reference, benefit=name, limit=limit, seed=seed)
        for name in measured_benefits(record)
    }
    for name, found in measured.items():
        tables = [curves_table(found, record, reference, warned), findings_table(found)]
        parts += ["", f"## Benefit: {BENEFIT_NAMES[name]}", "", *tables]
    parts += [f"- no {name}: {reason}" for name, reason in notes.absent.items()]
    if notes.fits:
        rows = [[name, f"{one.cosine:.3f}", f"{one.auroc:.3f}"] for name, one in notes.fits.items()]
        head = ["direction", "cosine with the mean difference", "AUROC of texts"]
        parts += ["", "## On held-out texts", "", table([head, *rows])]
    if scores:
        parts += ["", "## Features before the sweep", "", selection_table(scores, record)]
    parts += judge_lines(record, seed)
    parts += ["", "## Cells", "", cells_table(record), "## Examples", ""]
    parts += [f"- {row.method} {row.value:g}: {' / '.join(map(repr, row.examples[:2]))}" for row in record.rows]
    files.write_text(target / "steering.md", "\n".join(parts) + "\n")
    files.write_text(target / "steering.html", _page(record, measured, reference, limit))
    shown = measured.get(benefit) or sweep_curves(record, reference, benefit=benefit, limit=limit, seed=seed)
    figure = style.settled(steering_pareto(shown, reference, BENEFIT_NAMES[benefit], limit))
    files.write_text(target / "pareto.svg", style.svg(figure))
    style.save_png(figure, target / "pareto.png")
    return target / "pareto.png"


def _page(record: Record[SweepRow], measured: Mapping[str, Sequence[MethodCurve]], reference: str, limit: float) -> str:
    """The curves of every benefit on one page, drawn by the component that the workbench draws them with."""
    labels = {place: amount(row) for place, row in enumerate(record.rows)}
    drawn = [
        {"name": BENEFIT_NAMES[name], "data": pareto_data(found, reference, BENEFIT_NAMES[name], limit, labels)}
        for name, found in measured.items()
    ]
    return (
        html.environment()
        .get_template("steering/page.html.j2")
        .render(
            model=record.settings["model"],
            words=record.settings["words"],
            benefits=drawn,
            curves=html.inline([one["data"] for one in drawn]),
            component=html.component("curves.js"),
        )
    )


def _interval(found: object) -> str:
    value, low, high = (getattr(found, name) for name in ("value", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
