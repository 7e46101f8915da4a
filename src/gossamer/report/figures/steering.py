"""What steering brings at what cost: a curve a method, and the areas under them with intervals."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gossamer.errors import GossamerError
from gossamer.report import style
from gossamer.steering.pareto import MethodCurve

_CONTROL = "random"
# Below this cost, in nats a token, the axis is linear: the unsteered model stands at 0.
_LINEAR = 0.02


def steering_pareto(curves: Sequence[MethodCurve], reference: str, benefit: str, limit: float = 1.0) -> Figure:
    """Draw benefit against cost, each method's best up to every cost as a step line with its cells as points, and to
    the right areas with 95 % intervals, the largest on top. Random controls are grey.

    Raises:
        GossamerError: there are no methods.
    """
    if not curves:
        raise GossamerError("steering: at least one method expected, found none")
    ranked = sorted(curves, key=lambda one: -one.area.value)
    colours = _colours(ranked, reference)
    with style.paper():
        figure = Figure(figsize=(style.PAGE, max(2.9, 0.55 + 0.2 * len(ranked))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for number, one in enumerate(ranked):
            _curve(left, one, colours[one.method], style.MARKERS[number % len(style.MARKERS)], limit)
        left.axvline(limit, color=style.RULE, linewidth=0.8)
        left.set_xscale("symlog", linthresh=_LINEAR, linscale=0.4)
        ticks = [0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
        top = max(max(one.costs) for one in ranked)
        left.set_xticks([tick for tick in ticks if tick <= max(1.1 * top, limit)])
        left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.xaxis.set_minor_locator(_no_ticks())
        left.set_xlim(0, max(1.05 * top, limit))
        left.set_ylim(bottom=0)
        left.set_xlabel("cost: cross-entropy on neutral text (nats a token)")
        left.set_ylabel(benefit)
        _areas(right, ranked, colours, reference, limit)
    return figure


def _no_ticks() -> object:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _colours(ranked: Sequence[MethodCurve], reference: str) -> dict[str, str]:
    named, found = iter(style.BASELINES), {}
    for one in ranked:
        if one.method.startswith(_CONTROL):
            found[one.method] = style.FAINT
        elif one.method == reference:
            found[one.method] = style.INK
        else:
            found[one.method] = next(named, style.MUTED)
    return found


def _curve(axes: Axes, one: MethodCurve, colour: str, marker: str, limit: float) -> None:
    kept = [place for place in one.frontier if one.costs[place] <= limit]
    costs = [max(0.0, one.costs[place]) for place in kept]
    benefits = [one.benefits[place] for place in kept]
    if kept:
        axes.step([*costs, limit], [*benefits, benefits[-1]], where="post", color=colour, linewidth=1.1)
    axes.plot(
        [max(0.0, cost) for cost in one.costs], one.benefits, marker, color=colour, markersize=2.6, linestyle="none"
    )


def _areas(axes: Axes, ranked: Sequence[MethodCurve], colours: dict[str, str], reference: str, limit: float) -> None:
    for y, one in enumerate(ranked):
        colour, found = colours[one.method], one.area
        axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6, alpha=0.6, solid_capstyle="butt")
        axes.plot([found.value], [y], style.MARKERS[y % len(style.MARKERS)], color=colour, markersize=4)
        if one.improves:
            axes.annotate("+", (found.high, y), xytext=(4, 0), textcoords="offset points", va="center", color=colour)
    own = next((one for one in ranked if one.method == reference), None)
    if own is not None:
        axes.axvline(own.area.value, color=style.RULE, linewidth=0.8)
    axes.set_yticks(range(len(ranked)), [style.drawable(one.method.replace("_", " ")) for one in ranked])
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"area up to {limit:g} nats (+ improves on {reference.replace('_', ' ')})")
