"""Faithfulness by size in every task of a study: ours and the baselines that do best."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gossamer.circuits.curve import Curve, best_baseline
from gossamer.circuits.results import Findings
from gossamer.circuits.task_study import TaskStudy
from gossamer.errors import GossamerError
from gossamer.report import style

_COLUMNS = 3
_HEIGHT = 2.0


def task_study_figure(study: TaskStudy) -> Figure:
    """A panel a task: our curve with its 95 % band, all baselines, and the best of them at each size.

    Raises:
        GossamerError: nothing was found for any task.
    """
    if not study.findings:
        raise GossamerError("study of circuits: at least one task with a circuit expected, found none")
    columns = min(_COLUMNS, len(study.findings))
    lines = math.ceil(len(study.findings) / columns)
    with style.paper():
        figure = Figure(figsize=(style.PAGE, _HEIGHT * lines + 0.4), layout="constrained")
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(study.findings) :]:
            axes.set_visible(False)
        for axes, (name, found) in zip(grid.flat, study.findings.items(), strict=False):
            _panel(axes, found)
            style.title(axes, name, style.PAGE / columns)
        # Baselines may leave the picture, by as much as they overshoot; our own curves may not.
        highest = max(max(_values(found.curves[0])[1]) for found in study.findings.values())
        grid[0, 0].set_ylim(-0.1, max(1.25, 1.05 * highest))
        for axes in grid[:, 0]:
            axes.set_ylabel("faithfulness")
        handles = [
            Line2D([], [], color=style.OURS, marker="o", markersize=3.5, label="mask, 95 % interval"),
            Line2D([], [], color=style.AGAINST, linestyle="--", label="the best baseline at each size"),
            Line2D([], [], color=style.FAINT, linewidth=0.7, label="every baseline"),
            Line2D([], [], color=style.MUTED, linestyle=":", label="all latents of the dictionaries"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=style.SMALL)
    return figure


def pictures(study: TaskStudy) -> dict[str, Figure]:
    """The figure by name, once a task has a circuit."""
    return {"sizes": task_study_figure(study)} if study.findings else {}


def _panel(axes: Axes, found: Findings) -> None:
    ours, *others = found.curves
    for curve in others:
        axes.plot(*_values(curve), color=style.FAINT, linewidth=0.5, zorder=1)
    best = sorted((row.size, row.method) for row in best_baseline(found.comparisons))
    known = {curve.method: dict(zip(*_values(curve), strict=True)) for curve in others}
    axes.plot(
        [size for size, _ in best],
        [known[method][size] for size, method in best],
        color=style.AGAINST,
        linestyle="--",
        linewidth=1.1,
        zorder=3,
        gid="best-baseline",
    )
    sizes, values = _values(ours)
    points = sorted(ours.points, key=lambda point: point.size)
    shares = [point.task_metrics.faithfulness for point in points if point.size]
    axes.fill_between(sizes, [one.low for one in shares], [one.high for one in shares], color=style.OURS, alpha=0.2)
    axes.plot(sizes, values, color=style.OURS, marker="o", markersize=2.4, linewidth=1.4, zorder=4, gid="mask")
    axes.axhline(found.budget[-3].faithfulness.value, color=style.MUTED, linestyle=":", linewidth=0.9)
    axes.set_xscale("log")
    axes.grid(color=style.RULE, linewidth=0.4)
    axes.set_xlabel("nodes")


def _values(curve: Curve) -> tuple[list[int], list[float]]:
    points = sorted((point for point in curve.points if point.size), key=lambda point: point.size)
    return [point.size for point in points], [point.task_metrics.faithfulness.value for point in points]
