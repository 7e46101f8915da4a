"""Faithfulness against circuit size, our mask against every other method."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from gossamer.circuits.curve import Curve
from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.report import claims, style
from gossamer.report.curves_data import across_gaps
from gossamer.report.method_looks import MethodLook, method_looks
from gossamer.statistics import Interval

_TOP = 1.12
_UNKNOWN = Interval(math.nan, math.nan, math.nan)


def curves(findings: Findings) -> Figure:
    """Draw one line with its 95 % band a method over log size, with the full model, all dictionaries and empty circuit.

    Raises:
        GossamerError: there are no curves.
    """
    drawn = [curve for curve in findings.curves if any(point.size > 0 for point in curve.points)]
    if not drawn:
        raise GossamerError("curves: expected at least one method with circuits of one node or more, found none")
    with style.paper():
        # Letters are a little wider in a finer picture than where the layout was made.
        figure = Figure(figsize=(style.PAGE * 0.78, 3.1), layout=ConstrainedLayoutEngine(rect=(0, 0, 0.98, 1)))
        axes = figure.add_subplot()
        looks = method_looks([curve.method for curve in findings.curves])
        ends = [_line(axes, index, curve, looks[curve.method]) for index, curve in enumerate(drawn)]
        _frame(axes, drawn, claims.axis(findings))
        _landmarks(axes, findings, ends)
        _labels(axes, [(curve.method, looks[curve.method].colour) for curve in drawn], ends)
        style.title(axes, claims.curves(findings) or "Faithfulness against circuit size", style.PAGE * 0.7)
    return figure


def _line(axes: Axes, index: int, curve: Curve, look: MethodLook) -> tuple[float, float]:
    points = sorted((point for point in curve.points if point.size > 0), key=lambda point: point.size)
    ours = look.slot is None
    # Nothing is known of what lies between sizes that are far apart: line and band have a gap there.
    drawn = across_gaps([(point.size, point.task_metrics.faithfulness) for point in points], _UNKNOWN)
    sizes, values = [size for size, _ in drawn], [value for _, value in drawn]
    band = axes.fill_between(sizes, [v.low for v in values], [v.high for v in values], color=look.colour, linewidth=0)
    band.set(alpha=0.22 if ours else 0.09, zorder=3 if ours else 1, gid=f"curve-{index}-band")
    (line,) = axes.plot(sizes, [v.value for v in values], color=look.colour, label=curve.method)
    line.set(linewidth=1.9 if ours else 0.9, zorder=6 if ours else 4, markersize=3.6 if ours else 2.6)
    line.set(marker=look.marker, markeredgewidth=0, gid=f"curve-{index}-line")
    if look.dashed:
        line.set_dashes(style.DASHES[0])
    return float(sizes[-1]), values[-1].value


def _frame(axes: Axes, drawn: Sequence[Curve], name: str) -> None:
    sizes = [point.size for curve in drawn for point in curve.points if point.size > 0]
    lows = [point.task_metrics.faithfulness.low for curve in drawn for point in curve.points]
    highs = [point.task_metrics.faithfulness.high for curve in drawn for point in curve.points]
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.15, max(sizes) * 1.15)
    # One method far off the scale must not flatten the others: the axis covers at most -0.5 to 2.
    axes.set_ylim(max(min(-0.06, *lows) - 0.02, -0.5), min(max(_TOP, *highs) + 0.02, 2.0))
    axes.set_xlabel("circuit size (nodes)")
    axes.set_ylabel(name)
    ticks = [m * 10**e for e in range(7) for m in (1, 2, 5) if min(sizes) / 1.15 <= m * 10**e <= max(sizes) * 1.15]
    if len(ticks) > 12:
        ticks = [tick for tick in ticks if str(tick)[0] == "1"]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _landmarks(axes: Axes, findings: Findings, ends: Sequence[tuple[float, float]]) -> None:
    known = claims.landmarks(findings)
    full = ("full model", 1.0, "left", 1 if known is None or known.dictionaries.faithfulness.value <= 1 else -1)
    marks = [full]
    if known is not None:
        # On the side whose lines end further from it; the other landmarks have theirs.
        value, starts = known.dictionaries.faithfulness.value, [_first(curve) for curve in findings.curves]
        side = max(("left", starts), ("right", [y for _, y in ends]), key=lambda one: _gap(value, one[1]))[0]
        marks.append(("model + dictionaries", value, side, -full[3]))
        marks.append(("empty circuit", known.empty.faithfulness.value, "right", -1))
    low, high = axes.get_ylim()
    for name, value, side, direction in marks:
        if not low <= value <= high:
            continue
        axes.axhline(value, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=2)
        axes.annotate(
            name,
            (0 if side == "left" else 1, value),
            xycoords=("axes fraction", "data"),
            xytext=(3 if side == "left" else -3, 2 * direction),
            textcoords="offset points",
            fontsize=style.SMALL,
            color=style.MUTED,
            ha=side,
            va="bottom" if direction > 0 else "top",
            # Above every line, on paper of its own: a line may still pass.
            zorder=8,
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
        )


def _first(curve: Curve) -> float:
    """Faithfulness of the smallest circuit."""
    sized = [point for point in curve.points if point.size > 0]
    return min(sized, key=lambda point: point.size).task_metrics.faithfulness.value if sized else math.nan


def _gap(value: float, others: Sequence[float]) -> float:
    """How far the nearest of the others is."""
    return min((abs(value - other) for other in others if math.isfinite(other)), default=math.inf)


def _labels(axes: Axes, methods: Sequence[tuple[str, str]], ends: Sequence[tuple[float, float]]) -> None:
    """Names, in colours, beside the lines' last points, moved apart where they would touch."""
    low, high = axes.get_ylim()
    spacing = 0.058 * (high - low)
    order = sorted(range(len(ends)), key=lambda index: ends[index][1])
    places = spread([min(max(ends[index][1], low), high) for index in order], spacing, low, high)
    for index, y in zip(order, places, strict=True):
        name, colour = methods[index]
        axes.annotate(
            style.drawable(name),
            xy=ends[index],
            xytext=(1.05, y),
            textcoords=("axes fraction", "data"),
            color=colour,
            fontsize=style.SIZE if index == 0 else style.SMALL + 0.3,
            fontweight="bold" if index == 0 else "normal",
            va="center",
            gid=f"curve-{index}-label",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "gid": f"curve-{index}-tie",
            },
        )


def spread(wanted: Sequence[float], spacing: float, low: float, high: float) -> list[float]:
    """Rising positions close to `wanted` (rising), at least `spacing` apart, within low .. high where they fit."""
    placed: list[float] = []
    for value in wanted:
        placed.append(max(value, placed[-1] + spacing) if placed else max(value, low))
    for index in range(len(placed) - 1, -1, -1):
        ceiling = high if index == len(placed) - 1 else placed[index + 1] - spacing
        placed[index] = min(placed[index], ceiling)
    return placed
