"""The circuit as sites x roles with its strongest edges, for a paper: the still twin of the page's map."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from gossamer.circuits.results import Findings
from gossamer.report import claims, layout, style

_POINTS = layout.POINTS
_TITLE = 26.0
_LEGEND = 26.0
_MONO = "DejaVu Sans Mono"
_ERROR = "error node"
_CHIPS = {
    "token": ("#f0f3f6", style.INK),
    "passed": ("#ffffff", style.FAINT),
    "counterfactual": ("#fbeee6", style.AGAINST),
}


def circuit_map(findings: Findings) -> Figure:
    """Draw the circuit.

    Every pill is a node with words of its card; removing a blue one loses faithfulness, an orange one gains; triangles
    give the sign of what the latent writes towards the answer by itself. Error nodes are hexagons: a shape is seen in
    print without colours too. Edges that raise their target are blue, and as wide as what they carry on to the metric.
    No wider than a page of a paper where the roles with nodes allow it.

    Raises:
        GossamerError: a node lies outside the axes.
    """
    drawing = layout.circuit_layout(findings)
    height = drawing.height + _TITLE + _LEGEND
    with style.paper():
        figure = Figure(figsize=(drawing.width * _POINTS / 72, height * _POINTS / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, drawing.width)
        axes.set_ylim(drawing.height + _LEGEND, -_TITLE)
        axes.set_axis_off()
        sentence = style.shortened(claims.headline(findings), (drawing.width - 8) * _POINTS / 72)
        axes.text(4, -_TITLE / 2, sentence, fontsize=style.SIZE + 0.5, fontweight="bold", va="center")
        _grid(axes, drawing)
        _links(axes, drawing)
        _nodes(axes, drawing)
        _prompt(axes, drawing)
        _legend(axes, drawing)
    return figure


def _grid(axes: Axes, drawing: layout.CircuitLayout) -> None:
    right = drawing.columns[-1].x + drawing.columns[-1].width if drawing.columns else drawing.width
    for row in drawing.rows:
        axes.plot([drawing.left, right], [row.y, row.y], color=style.RULE, linewidth=0.5)
        _mono(axes, drawing.left - 8, row.y + row.height / 2, row.site, ha="right")
    for column in drawing.columns:
        if column.passed:
            box = Rectangle((column.x, 4), column.width, drawing.bottom - 4, facecolor="none", edgecolor=style.RULE)
            box.set(hatch="////", linewidth=0)
            axes.add_patch(box)
        else:
            axes.plot([column.x, column.x], [4, drawing.bottom], color=style.RULE, linewidth=0.5)
        axes.text(
            column.x + column.width / 2,
            drawing.bottom + 15,
            style.drawable(column.label),
            fontsize=style.SMALL,
            fontweight="normal" if column.passed else "bold",
            color=style.FAINT if column.passed else style.INK,
            ha="center",
            va="center",
        )
    axes.plot([drawing.left, right], [drawing.bottom, drawing.bottom], color=style.FAINT, linewidth=0.7)


def _links(axes: Axes, drawing: layout.CircuitLayout) -> None:
    for link in drawing.links:
        bend = max(10.0, (link.y0 - link.y1) / 2)
        turns = [(link.x0, link.y0), (link.x0, link.y0 - bend), (link.x1, link.y1 + bend), (link.x1, link.y1)]
        curve = PathPatch(Path(turns, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]), facecolor="none")
        colour = style.OURS if link.raises else style.AGAINST
        # Beneath the pills, which have zorder 1: no line crosses a word.
        curve.set(edgecolor=colour, linewidth=0.4 + 1.8 * link.share**0.5, alpha=0.55, zorder=0.9, gid="edge")
        axes.add_patch(curve)
    if drawing.metric is not None:
        x, y, width, said = drawing.metric
        axes.add_patch(Rectangle((x, y), width, layout.PILL, facecolor="#ffffff", edgecolor=style.INK, linewidth=0.6))
        _mono(axes, x + width / 2, y + layout.PILL / 2, said, ha="center")


def _nodes(axes: Axes, drawing: layout.CircuitLayout) -> None:
    for pill in drawing.pills:
        shape = _hexagon(pill.x, pill.y, pill.width, layout.PILL) if pill.is_error else _rounded(pill)
        shape.set(facecolor=pill.fill, edgecolor=pill.stroke, linewidth=0.6, gid=f"node-{pill.node}")
        axes.add_patch(shape)
        middle = pill.y + layout.PILL / 2
        _mono(axes, pill.x + (pill.width - 8 * abs(pill.arrow)) / 2, middle, pill.label, ha="center", color=pill.ink)
        if pill.arrow:
            axes.add_patch(Polygon(_arrow(pill), closed=True, facecolor=pill.ink, linewidth=0))
    for more in drawing.more:
        where = (more.x + more.width / 2, more.y + layout.PILL / 2)
        said = axes.text(*where, f"+{more.count:,}", fontsize=style.SMALL, color=style.MUTED, ha="center", va="center")
        said.set_bbox({"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.8})


def _rounded(pill: layout.Pill) -> Patch:
    return FancyBboxPatch(
        (pill.x + 5, pill.y + 5), pill.width - 10, layout.PILL - 10, boxstyle="round,pad=5,rounding_size=5"
    )


def _hexagon(x: float, y: float, width: float, height: float) -> Patch:
    """A box whose left and right ends are points, as error nodes have it in the page's map."""
    right, middle, point = x + width, y + height / 2, 0.45 * height
    upper = [(x, middle), (x + point, y), (right - point, y)]
    lower = [(right, middle), (right - point, y + height), (x + point, y + height)]
    return Polygon(upper + lower, closed=True, joinstyle="miter")


def _arrow(pill: layout.Pill) -> list[tuple[float, float]]:
    """Corners of the triangle in a pill: up for towards the answer, down for away from it."""
    x, y, rise = pill.x + pill.width - 10, pill.y + layout.PILL / 2, 2.6 * pill.arrow
    return [(x - 2.8, y + rise), (x + 2.8, y + rise), (x, y - rise)]


def _prompt(axes: Axes, drawing: layout.CircuitLayout) -> None:
    for chip in drawing.chips:
        fill, ink = _CHIPS[chip.kind]
        axes.add_patch(Rectangle((chip.x, chip.y), chip.width, 14, facecolor=fill, linewidth=0))
        _mono(axes, chip.x + 2, chip.y + 7, chip.label, color=ink)
    _mono(axes, drawing.left - 8, drawing.bottom + 37, "prompt", ha="right", color=style.MUTED)
    if drawing.counterfactual_y is not None:
        _mono(axes, drawing.left - 8, drawing.counterfactual_y + 7, "counterfactual", ha="right", color=style.AGAINST)
    for y, note in drawing.notes:
        _mono(axes, drawing.left, y, note, color=style.MUTED)


def _legend(axes: Axes, drawing: layout.CircuitLayout) -> None:
    y, x = drawing.height + 12, drawing.left + 56
    for step in range(24):
        share = step / 23 * 2 - 1
        fill = style.mix(style.PAPER, style.OURS if share > 0 else style.AGAINST, abs(share))
        axes.add_patch(Rectangle((x + step * 3, y - 5), 3.2, 10, facecolor=fill, linewidth=0))
    look: dict[str, Any] = {"fontsize": style.SMALL, "color": style.MUTED, "va": "center"}
    axes.text(x - 6, y, "raises", ha="right", **look)
    axes.text(x + 78, y, drawing.legend, **look)
    if drawing.has_errors:
        # Beneath the names of the sites, where there is always room; the rest of the legend may fill a page's width.
        end = drawing.left - 8
        axes.text(end, y, _ERROR, ha="right", **look)
        words = style.width(_ERROR, style.SMALL, "normal") * 72 / _POINTS
        key = _hexagon(end - words - 30, y - 5, 22.0, 10.0)
        key.set(facecolor=style.PAPER, edgecolor=style.MUTED, linewidth=0.6, gid="legend-error")
        axes.add_patch(key)


def _mono(axes: Axes, x: float, y: float, said: str, *, color: str = style.INK, ha: str = "left") -> None:
    size = layout.FONT * _POINTS
    axes.text(x, y, style.drawable(said), fontfamily=[_MONO], fontsize=size, color=color, ha=ha, va="center_baseline")
