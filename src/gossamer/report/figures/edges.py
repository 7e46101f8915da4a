"""Faithfulness against the number of edges kept: the strongest, beside as many random ones."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.report import claims, style


def edges(findings: Findings) -> Figure:
    """Draw both curves over the log number of edges, with 95 % bands, each random set, and both ends of the scale.

    Raises:
        GossamerError: edges were not tested, or there are none.
    """
    test = findings.edge_test
    if test is None or not test.points:
        raise GossamerError("edges: expected a test of at least one edge, found none")
    counts = [point.edges for point in test.points]
    with style.paper():
        figure = Figure(figsize=(style.COLUMN * 1.35, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for name, colour in (("strongest", style.OURS), ("random", style.AGAINST)):
            values = [getattr(point, name) for point in test.points]
            lows, highs = [one.low for one in values], [one.high for one in values]
            axes.fill_between(counts, lows, highs, color=colour, linewidth=0, alpha=0.18)
            (line,) = axes.plot(counts, [one.value for one in values], color=colour, marker="o", label=name)
            line.set(linewidth=1.6, markersize=3.2, markeredgewidth=0, zorder=5)
        for point in test.points:
            spots = axes.scatter([point.edges] * len(point.draws), point.draws, s=4, color=style.AGAINST, linewidth=0)
            spots.set(alpha=0.5, zorder=4)
        axes.set_xscale("log")
        axes.set_xlim(0.85, counts[-1] * 1.2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("edges kept")
        axes.set_ylabel(claims.axis(findings))
        _ends(axes, {"the circuit": test.every.value, "no edge": test.none.value})
        axes.legend(frameon=False, fontsize=style.SMALL, loc="best", handlelength=1.4)
        style.title(axes, claims.edges(findings) or "", style.COLUMN * 1.2)
    return figure


def _ends(axes: Axes, ends: dict[str, float]) -> None:
    for name, value in ends.items():
        axes.axhline(value, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=2)
        axes.annotate(
            name,
            (0, value),
            xycoords=("axes fraction", "data"),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=style.SMALL,
            color=style.MUTED,
            va="bottom",
        )
