"""Do circuit and model fall together when parts of the circuit are taken from both?"""

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.report import claims, style


def completeness(findings: Findings) -> Figure:
    """Scatter F(M without K) against F(C without K) for the subsets K, shaded by the size of K, over the diagonal.

    Raises:
        GossamerError: no subset was measured.
    """
    points = findings.completeness.points
    if not points:
        raise GossamerError("completeness: expected at least one subset K of the circuit, found none")
    with style.paper():
        figure = Figure(figsize=(style.COLUMN + 0.2, 3.15), layout="constrained")
        axes = figure.add_subplot()
        xs, ys = [point.circuit for point in points], [point.model for point in points]
        low, high = min(0.0, *xs, *ys) - 0.08, max(1.0, *xs, *ys) + 0.08
        axes.plot([low, high], [low, high], color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            "equal fall",
            (high, high),
            xytext=(-4, -12),
            textcoords="offset points",
            rotation=45,
            rotation_mode="anchor",
            fontsize=style.SMALL,
            color=style.MUTED,
            ha="right",
            va="center",
        )
        shades = LinearSegmentedColormap.from_list("removed", [style.mix(style.PAPER, style.OURS, 0.18), style.OURS])
        dots = axes.scatter(xs, ys, c=[point.size for point in points], cmap=shades, s=26, zorder=3)
        dots.set(edgecolor=style.OURS, linewidth=0.5)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xlabel("F(C without K), circuit")
        axes.set_ylabel("F(M without K), model + dictionaries")
        bar = figure.colorbar(dots, ax=axes, shrink=0.55, aspect=16, pad=0.02)
        bar.set_label("size of K (nodes)", fontsize=style.SMALL)
        bar.outline.set_visible(False)
        _name_ends(axes, findings)
        style.title(axes, claims.completeness(findings) or "", style.COLUMN * 0.78)
    return figure


def _name_ends(axes: Axes, findings: Findings) -> None:
    low, high = axes.get_xlim()
    for point in findings.completeness.points:
        if point.kind == "random":
            continue
        # Labels go to the side where there is room; above the diagonal's end they would leave the frame.
        right = point.circuit < (low + high) / 2
        axes.annotate(
            {"none": "K empty", "whole circuit": "K = circuit"}.get(point.kind, style.drawable(point.kind)),
            (point.circuit, point.model),
            xytext=(6 if right else -6, -6 if point.model < point.circuit or right else 5),
            textcoords="offset points",
            fontsize=style.SMALL,
            color=style.MUTED,
            ha="left" if right else "right",
            va="top" if right else "center",
        )
