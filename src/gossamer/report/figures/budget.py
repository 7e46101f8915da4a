"""Where the behaviour is lost: full model, dictionaries, circuit, nothing."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gossamer.circuits.results import Findings
from gossamer.circuits.task_metrics import TaskMetrics, budget_marks
from gossamer.errors import GossamerError
from gossamer.report import claims, style, text


def budget(findings: Findings) -> Figure:
    """Draw faithfulness with its 95 % interval, accuracies and KL of every network of the error budget, one row each.

    Raises:
        GossamerError: the budget is empty or incomplete.
    """
    known = claims.landmarks(findings)
    if known is None:
        raise GossamerError("error budget: expected rows from the full model to the empty circuit, found none")
    rows = findings.budget
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 0.85 + 0.21 * len(rows)), layout="constrained")
        left, *others = figure.subplots(1, 4, sharey=True, width_ratios=(3, 0.85, 0.85, 1.1))
        colours = [style.OURS if row is known.circuit else style.MUTED for row in rows]
        _intervals(left, rows, colours, claims.axis(findings))
        _dots(others[0], [row.accuracy for row in rows], colours, "accuracy", text.percent)
        _dots(others[1], [row.top1 for row in rows], colours, "top-1", text.percent)
        name = style.broken("KL to full model (nats)", 0.14 * style.PAGE, style.SIZE, "normal")
        _dots(others[2], [row.kl for row in rows], colours, name, text.number)
        left.set_yticks(range(len(rows)), [style.drawable(row.name) for row in rows])
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.get_yticklabels()[len(rows) - 2].set_fontweight("bold")
        style.title(left, claims.budget(findings) or "", style.PAGE * 0.8)
    return figure


def _intervals(axes: Axes, rows: Sequence[TaskMetrics], colours: Sequence[str], name: str) -> None:
    axes.axvline(1, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.axvline(0, color=style.RULE, linewidth=0.8)
    for y, (row, colour, mark) in enumerate(zip(rows, colours, budget_marks(rows), strict=True)):
        found = row.faithfulness
        axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6, alpha=0.55, solid_capstyle="butt")
        axes.plot([found.value], [y], "o", color=colour, markersize=4.2)
        said = f"{text.ratio(found.value)}{mark} [{text.ratio(found.low)}, {text.ratio(found.high)}]"
        axes.annotate(
            said, (1.01, y), xycoords=("axes fraction", "data"), fontsize=style.SMALL, color=colour, va="center"
        )
    top = max(1.0, *(row.faithfulness.high for row in rows))
    axes.set_xlim(min(0.0, *(row.faithfulness.low for row in rows)) - 0.03, top * 1.03)
    axes.set_xlabel(name)
    _quiet(axes)


def _dots(
    axes: Axes, values: Sequence[float], colours: Sequence[str], name: str, write: Callable[[float | None], str]
) -> None:
    for y, (value, colour) in enumerate(zip(values, colours, strict=True)):
        axes.plot([0, value], [y, y], color=colour, linewidth=0.8, alpha=0.4)
        axes.plot([value], [y], "o", color=colour, markersize=3.2)
        axes.annotate(
            write(value),
            (value, y),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=style.SMALL,
            color=colour,
            va="center",
        )
    top = max(*values, 1e-9)
    axes.set_xlim(-0.06 * top, top * 1.6)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel(name)
    _quiet(axes)


def _quiet(axes: Axes) -> None:
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
