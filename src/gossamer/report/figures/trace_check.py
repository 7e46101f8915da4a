"""What a trace's edges predict against what the model does when their contributions are removed."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from gossamer.attention.check import Agreement
from gossamer.attention.tracing import TraceResult
from gossamer.errors import UsageError
from gossamer.report import style

# Below this share of the largest effect the axes are linear, beyond it logarithmic: effects differ by orders.
_LINEAR = 0.02


def trace_check(result: TraceResult) -> Figure:
    """Scatter measured against predicted effects over the diagonal, with patterns held and with nothing held.

    Raises:
        UsageError: the trace was not checked.
    """
    if result.check is None:
        raise UsageError(f"{result!r}: a trace whose edges were checked expected; trace it with check=True (--check)")
    edges = result.check.edges
    effects = [value for edge in edges for value in (edge.predicted, edge.frozen, edge.live)]
    largest = max(map(abs, effects)) or 1.0
    limits = (min(-0.1 * largest, 1.6 * min(effects)), max(0.1 * largest, 1.6 * max(effects)))
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 3.3), layout="constrained")
        held, live = figure.subplots(1, 2, sharey=True)
        _panel(held, result, [edge.frozen for edge in edges], result.check.frozen, style.OURS)
        _panel(live, result, [edge.live for edge in edges], result.check.live, style.AGAINST)
        for axes, name in ((held, "Patterns and norms held"), (live, "Nothing held")):
            axes.set_xscale("symlog", linthresh=_LINEAR * largest)
            axes.set_yscale("symlog", linthresh=_LINEAR * largest)
            axes.set(xlim=limits, ylim=limits)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(FixedLocator(_ticks(*limits, _LINEAR * largest)))
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_locator(NullLocator())
            axes.tick_params(labelsize=style.SMALL)
            axes.set_xlabel("predicted: contribution to the parent")
            style.title(axes, name, style.PAGE * 0.4)
        held.set_ylabel("measured: fall when it is removed")
    return figure


def _panel(axes: Axes, result: TraceResult, measured: Sequence[float], found: Agreement, colour: str) -> None:
    assert result.check is not None
    edges = result.check.edges
    axes.axline((0, 0), slope=1, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    for line in (axes.axhline, axes.axvline):
        line(0, color=style.RULE, linewidth=0.6)
    predicted = [edge.predicted for edge in edges]
    axes.scatter(predicted, measured, s=13, color=colour, alpha=0.65, linewidth=0, zorder=3, gid="edges")
    drawn = f"{found.texts} texts" if found.texts > 1 else "edges of one prompt"
    said = f"rank correlation {found.value:.2f}\n[{found.low:.2f}, {found.high:.2f}] over {drawn}\n{found.edges} edges"
    axes.text(0.97, 0.03, said, transform=axes.transAxes, ha="right", va="bottom", fontsize=style.SMALL, color=colour)
    largest = max(range(len(edges)), key=lambda one: abs(predicted[one]))
    right = predicted[largest] < 0
    axes.annotate(
        style.drawable(f"{result.trace.nodes[edges[largest].child].source}{result.token(edges[largest].child)}"),
        (predicted[largest], measured[largest]),
        xytext=(6 if right else -6, -3),
        textcoords="offset points",
        fontsize=style.SMALL - 0.8,
        color=style.MUTED,
        ha="left" if right else "right",
        va="top",
    )


def _ticks(low: float, high: float, linear: float) -> list[float]:
    """Zero, and powers of ten where the axis is logarithmic."""
    powers = [10.0**power for power in range(math.ceil(math.log10(linear)), 1 + math.ceil(math.log10(max(high, -low))))]
    return [value for value in (*(-one for one in reversed(powers)), 0.0, *powers) if low <= value <= high]
