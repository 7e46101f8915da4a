"""What steering brings at what cost: a curve a method, and the areas under them with intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from gossamer.errors import GossamerError
from gossamer.report import style
from gossamer.report.curves_data import LINEAR, pareto_data
from gossamer.steering.pareto import MethodCurve


def steering_pareto(curves: Sequence[MethodCurve], reference: str, benefit: str, limit: float = 1.0) -> Figure:
    """Draw benefit against cost, and to the right areas with 95 % intervals, the largest on top.

    To the left each method's best up to every cost is a step line with its cells as points: in colour the reference,
    the prompt and the methods with the largest areas; in grey the others. What random controls reach is a grey band.
    Names to the right have the colours of the lines.

    Raises:
        GossamerError: there are no methods.
    """
    if not curves:
        raise GossamerError("steering: at least one method expected, found none")
    data = pareto_data(curves, reference, benefit, limit)
    series = data["series"]
    with style.paper():
        figure = Figure(figsize=(style.PAGE, max(2.9, 0.55 + 0.19 * len(series))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _band(left, data["band"], limit)
        for one in reversed(series):
            if one["look"] != "control":
                _curve(left, one)
        left.set_xscale("symlog", linthresh=LINEAR, linscale=0.4)
        left.set_xticks(data["x"]["ticks"])
        left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.xaxis.set_minor_locator(NullLocator())
        left.set_xlim(-0.001, 1.02 * limit)
        left.set_ylim(bottom=0)
        left.set_xlabel(data["x"]["label"])
        left.set_ylabel(style.broken(benefit, 0.8 * float(figure.get_size_inches()[1]), style.SIZE, "normal"))
        _areas(right, data)
    return figure


class _Look(NamedTuple):
    """How a method is drawn: its marker is "" where only a thin line is."""

    colour: str
    marker: str
    dash: str


def _look(one: dict[str, Any]) -> _Look:
    if one["look"] == "named":
        return _Look(style.BASELINES[one["slot"]], style.MARKERS[one["slot"] + 1], "-")
    return {
        "control": _Look(style.FAINT, "", "-"),
        "reference": _Look(style.INK, style.MARKERS[0], "-"),
        "prompt": _Look(style.OURS, "o", "--"),
        "other": _Look(style.MUTED, "", "-"),
    }[one["look"]]


def _band(axes: Axes, band: dict[str, Any] | None, limit: float) -> None:
    if band is None:
        return
    axes.fill_between(band["x"], band["low"], band["high"], step="post", color=style.RULE, linewidth=0)
    axes.step(band["x"], band["high"], where="post", color=style.FAINT, linewidth=0.6)
    middle = (limit, (band["low"][-1] + band["high"][-1]) / 2)
    said = axes.annotate(band["name"], middle, xytext=(-2, 0), textcoords="offset points", fontsize=style.SMALL)
    said.set(ha="right", va="center", color=style.MUTED)


def _curve(axes: Axes, one: dict[str, Any]) -> None:
    look = _look(one)
    costs, benefits = ([corner[axis] for corner in one["line"]] for axis in (0, 1))
    coloured = bool(look.marker)
    colour, width = (look.colour, 1.3) if coloured else (style.FAINT, 0.5)
    axes.step(costs, benefits, where="post", color=colour, linewidth=width, linestyle=look.dash, zorder=2 + coloured)
    if coloured:
        axes.plot(costs[:-1], benefits[:-1], look.marker, color=colour, markersize=3.4, linestyle="none", zorder=4)


def _areas(axes: Axes, data: dict[str, Any]) -> None:
    series = data["series"]
    for y, one in enumerate(series):
        look, found = _look(one), one["value"]
        colour = look.colour
        axes.plot([found["low"], found["high"]], [y, y], color=colour, linewidth=1.6, alpha=0.6, solid_capstyle="butt")
        axes.plot([found["value"]], [y], look.marker or ".", color=colour, markersize=4)
        if one["mark"]:
            place = (found["high"], y)
            axes.annotate(one["mark"], place, xytext=(4, 0), textcoords="offset points", va="center", color=colour)
        if one["look"] == "reference":
            axes.axvline(found["value"], color=style.FAINT, linewidth=0.6, linestyle=":", zorder=0)
    axes.set_yticks(range(len(series)), [style.drawable(one["name"]) for one in series])
    for label, one in zip(axes.get_yticklabels(), series, strict=True):
        label.set_color(_look(one).colour)
    axes.set_ylim(len(series) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    note = f" (+ {data['marks']})" if any(one["mark"] for one in series) else ""
    axes.set_xlabel(f"{data['values']}{note}")
