"""Features found against variance explained, where features are known."""

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gossamer.errors import GossamerError
from gossamer.report import style
from gossamer.report.features_truth import NAMES, READINGS
from gossamer.statistics import student_half
from gossamer.toys.feature_scores import FeatureScores
from gossamer.toys.features_truth import LEARNED, RANDOM, TRUTH, FeaturesTruth

_COLOURS = {
    "l1": "#9a7b1f",
    "topk": "#3f7f5f",
    "batchtopk": "#2f8794",
    "jumprelu": "#7a5c99",
    "matryoshka": style.OURS,
    LEARNED: style.AGAINST,
    TRUTH: style.INK,
    RANDOM: style.FAINT,
}
_MARKERS = dict(zip(READINGS, ("o", "s", "^", "D"), strict=True))
_SHOWN: dict[str, Callable[[FeatureScores], float]] = {"F1": lambda one: one.f1, "MCC": lambda one: one.mcc}


def features_figure(truth: FeaturesTruth) -> Figure:
    """A column for each L0 asked for: F1 above and MCC below, against variance explained.

    A point is a mean over seeds, its bars are Student's 95 % intervals. Encoders are filled, pursuits open.

    Raises:
        GossamerError: nothing was measured.
    """
    if not truth.scored:
        raise GossamerError("study of features: at least one reading expected, found none")
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 5.2), layout="constrained")
        grid = figure.subplots(2, len(truth.targets), sharey="row", sharex="col", squeeze=False)
        for column, target in enumerate(truth.targets):
            for axes, (name, value) in zip(grid[:, column], _SHOWN.items(), strict=True):
                for (dictionary, reading), found in truth.at(target).items():
                    _point(axes, found, value, dictionary, reading)
                axes.grid(color=style.RULE, linewidth=0.5)
                if column == 0:
                    axes.set_ylabel(name)
            style.title(grid[0, column], f"L0 {target}", style.PAGE / len(truth.targets))
            grid[1, column].set_xlabel("variance explained")
        look: dict[str, Any] = {"linewidth": 0, "marker": "o", "markersize": 4}
        handles = [Line2D([], [], color=colour, label=NAMES[name], **look) for name, colour in _COLOURS.items()]
        look = {"color": style.MUTED, "linewidth": 0, "markersize": 4}
        handles += [
            Line2D([], [], marker=mark, fillstyle=_fill(name), label=READINGS[name], **look)
            for name, mark in _MARKERS.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=style.SMALL)
    return figure


def _fill(reading: str) -> Any:
    return "full" if reading == "encoder" else "none"


def _point(
    axes: Axes, found: list[FeatureScores], value: Callable[[FeatureScores], float], dictionary: str, reading: str
) -> None:
    xs, ys = [one.explained_variance for one in found], [value(one) for one in found]
    axes.errorbar(
        sum(xs) / len(xs),
        sum(ys) / len(ys),
        xerr=student_half(xs) or 0.0,
        yerr=student_half(ys) or 0.0,
        color=_COLOURS[dictionary],
        marker=_MARKERS[reading],
        fillstyle=_fill(reading),
        markersize=4,
        elinewidth=0.6,
        linewidth=0,
        gid=f"{dictionary}-{reading}",
    )
