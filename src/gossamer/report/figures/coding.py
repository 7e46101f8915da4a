"""Cross-entropy recovered against L0: dictionaries trained at several L0s, each coded in several ways."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from gossamer.errors import GossamerError
from gossamer.replacement.coding_study import ENCODERS, SWEPT, CodingPoint, CodingStudy
from gossamer.report import style
from gossamer.report.coding import PURSUITS, headline, trained_at
from gossamer.report.figures.curves import spread

_COLOURS = ("#2f8794", style.OURS, "#7a5c99", style.AGAINST, "#9a7b1f", "#3f7f5f", "#b0647f", style.MUTED)
_LINES = {
    "gradient": (None, 1.5),
    "orthogonal": ((6, 1.2, 1.2, 1.2), 1.0),
    "matching": ((7, 2), 0.9),
    "refit": ((3, 1.3), 1.0),
    "top_k": ((1, 1.1), 1.1),
}
_NAMES = {
    "refit": "encoder's top k, re-optimised",
    "top_k": "encoder's top k",
    "encoder": "encoder",
    "rescaled": "encoder, rescaled",
    "shifted": "encoder, rescaled and shifted",
}
# Shares that a reader knows how to place; the axis is even in the logarithm of what is lost.
_DECADES = (0.0, 0.9, 0.99, 0.999, 0.9999)
_TICKS = (*_DECADES, 0.5, 0.8, 0.95, 0.98, 0.995, 0.998, 0.9995, 0.9998)
_LEAST_LOST = 1e-4


def coding(study: CodingStudy) -> Figure:
    """Draw pursuit of every dictionary with the encoders' own points, and each dictionary with all its methods beside.

    Colours are dictionaries, line styles methods. Above 1 - 1e-4 a point stands at that edge.

    Raises:
        GossamerError: no pursuit was measured.
    """
    names = study.dictionaries
    pursuit = next((method for method in PURSUITS if any(point.method == method for point in study.points)), None)
    if pursuit is None:
        raise GossamerError(f"coding study: a pursuit ({', '.join(PURSUITS)}) expected among the methods, found none")
    with style.paper():
        lines = (len(names) + 1) // 2
        figure = Figure(figsize=(style.PAGE, max(3.3, 0.5 + 1.45 * lines)), layout="constrained")
        grid = figure.add_gridspec(lines, 4, width_ratios=(1.15, 1.15, 1, 1))
        left = figure.add_subplot(grid[:, :2])
        _frame(left, study.points, _TICKS, room=5.0)
        for index, name in enumerate(names):
            _line(left, study.curve(name, pursuit), pursuit, _colour(index))
            _encoders(left, study, name, _colour(index))
        _labels(left, study, pursuit)
        left.set_ylabel("cross-entropy recovered")
        left.set_xlabel(f"L0 ({pursuit} pursuit: lines; encoders: dots)")
        for index, name in enumerate(names):
            axes = figure.add_subplot(grid[index // 2, 2 + index % 2])
            _panel(axes, study, name, _colour(index))
            axes.tick_params(labelbottom=index + 2 >= len(names), labelleft=index % 2 == 0)
        _legend(left, study)
        sentence = style.broken(headline(study, pursuit), style.PAGE * 0.92)
        figure.suptitle(sentence, x=0.008, ha="left", fontsize=style.SIZE + 0.5, fontweight="bold")
    return figure


def pictures(study: CodingStudy) -> dict[str, Figure]:
    """The figure by name, once a pursuit was measured."""
    return {"coding": coding(study)} if any(point.method in PURSUITS for point in study.points) else {}


def _panel(axes: Axes, study: CodingStudy, name: str, colour: str) -> None:
    """One dictionary, all methods."""
    _frame(axes, study.points, _DECADES)
    for method in SWEPT:
        _line(axes, study.curve(name, method), method, colour)
    _encoders(axes, study, name, colour)
    axes.set_title(style.drawable(trained_at(study, name)), fontsize=style.SMALL + 0.3, color=colour, pad=2.5)


def _legend(axes: Axes, study: CodingStudy) -> None:
    """The line styles, in no dictionary's colour, where curves that rise from the right of the names leave room."""
    used = {point.method for point in study.points}
    handles = []
    for method in [method for method in (*PURSUITS, "refit", "top_k") if method in used]:
        dashes, width = _LINES[method]
        line = Line2D([], [], color=style.MUTED, linewidth=width, label=_NAMES.get(method, f"{method} pursuit"))
        if dashes is not None:
            line.set_dashes(dashes)
        handles.append(line)
    for method in [method for method in ENCODERS if method in used]:
        handles.append(Line2D([], [], **_dot(method, style.MUTED), label=_NAMES[method]))
    look: dict[str, Any] = {"loc": "upper left", "frameon": False, "handlelength": 2.6, "labelspacing": 0.3}
    axes.legend(handles=handles, fontsize=style.SMALL, labelcolor=style.MUTED, borderaxespad=0.1, **look)


def _dot(method: str, colour: str) -> dict[str, Any]:
    whole = method == "encoder"
    look = {"marker": {"rescaled": "D", "shifted": "s"}.get(method, "o"), "markersize": 4.4 if whole else 3.2}
    look |= {"linestyle": "none"}
    return look | {"markerfacecolor": colour if whole else style.PAPER, "markeredgecolor": colour}


def _line(axes: Axes, points: Sequence[CodingPoint], method: str, colour: str) -> None:
    if not points:
        return
    dashes, width = _LINES[method]
    (line,) = axes.plot([point.l0 for point in points], [_lost(point) for point in points], color=colour)
    line.set(linewidth=width, gid=f"{points[0].dictionary}-{method}")
    if dashes is not None:
        line.set_dashes(dashes)
    else:
        line.set(marker="o", markersize=1.9, markeredgewidth=0)


def _encoders(axes: Axes, study: CodingStudy, name: str, colour: str) -> None:
    for method in ENCODERS:
        for point in study.curve(name, method):
            (dot,) = axes.plot([point.l0], [_lost(point)], **_dot(method, colour))
            dot.set(markeredgewidth=0.9, zorder=6, clip_on=False)


def _lost(point: CodingPoint) -> float:
    return max(1 - point.loss_recovered, _LEAST_LOST)


def _frame(axes: Axes, points: Sequence[CodingPoint], ticks: Sequence[float], room: float = 1.12) -> None:
    """Axes that hold all points, with `room` times as much on the left."""
    xs, lost = [max(point.l0, 0.1) for point in points], [_lost(point) for point in points]
    low, high = min(lost) / 1.25, min(max(lost), 1.0) * 1.15
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(xs) / room, max(xs) * 1.12)
    # What is lost, upside down: the top is a model that loses nothing.
    axes.set_ylim(high, low)
    axes.xaxis.set_major_locator(FixedLocator([2.0**power for power in range(-3, 12) if 2.0**power > 0.9 * min(xs)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(FixedLocator([1 - tick for tick in ticks if low <= 1 - tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(1 - value, 6):g}".lstrip("0") or "0"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def _labels(axes: Axes, study: CodingStudy, method: str) -> None:
    """Names before the lines' first points, where they lie furthest apart, moved where they would touch."""
    starts = {index: study.curve(name, method) for index, name in enumerate(study.dictionaries)}
    where = {index: (points[0].l0, _lost(points[0])) for index, points in starts.items() if points}
    inside = axes.transData + axes.transAxes.inverted()
    places = {index: inside.transform(point) for index, point in where.items()}
    order = sorted(places, key=lambda index: places[index][1])
    moved = spread([places[index][1] for index in order], 0.055, 0.0, 1.0)
    for index, y in zip(order, moved, strict=True):
        axes.annotate(
            style.drawable(trained_at(study, study.dictionaries[index])),
            xy=where[index],
            xytext=(places[index][0] - 0.03, y),
            textcoords="axes fraction",
            color=_colour(index),
            fontsize=style.SMALL + 0.3,
            ha="right",
            va="center",
        )


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
