"""What steering brings at what cost: a curve a method, and the areas under them with intervals."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from gossamer.errors import GossamerError
from gossamer.report import style
from gossamer.steering.pareto import MethodCurve

_CONTROL, _PROMPT = "random", "prompt"
# Below this cost, in nats a token, the axis is linear: the unsteered model stands at 0.
_LINEAR = 0.02
# Methods whose curves are drawn in colour, beside the reference and the prompt.
_COLOURED = 4


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
    ranked = sorted(curves, key=lambda one: -one.area.value)
    looks = _looks(ranked, reference)
    with style.paper():
        figure = Figure(figsize=(style.PAGE, max(2.9, 0.55 + 0.19 * len(ranked))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _band(left, [one for one in ranked if one.method.startswith(_CONTROL)], limit)
        for one in reversed(ranked):
            if not one.method.startswith(_CONTROL):
                _curve(left, one, looks[one.method], limit)
        left.set_xscale("symlog", linthresh=_LINEAR, linscale=0.4)
        left.set_xticks([tick for tick in (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0) if tick <= limit])
        left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.xaxis.set_minor_locator(NullLocator())
        left.set_xlim(-0.001, 1.02 * limit)
        left.set_ylim(bottom=0)
        left.set_xlabel("cost: cross-entropy on neutral text (nats a token)")
        left.set_ylabel(style.broken(benefit, 0.8 * float(figure.get_size_inches()[1]), style.SIZE, "normal"))
        _areas(right, ranked, looks, reference, limit)
    return figure


class _Look(NamedTuple):
    """How a method is drawn: its marker is "" where only a thin line is."""

    colour: str
    marker: str
    dash: str


def _looks(ranked: Sequence[MethodCurve], reference: str) -> dict[str, _Look]:
    found, named = {}, iter(zip(style.BASELINES[:_COLOURED], style.MARKERS[1:], strict=False))
    for one in ranked:
        if one.method.startswith(_CONTROL):
            found[one.method] = _Look(style.FAINT, "", "-")
        elif one.method == reference:
            found[one.method] = _Look(style.INK, style.MARKERS[0], "-")
        elif one.method == _PROMPT:
            found[one.method] = _Look(style.OURS, "o", "--")
        elif (next_ := next(named, None)) is not None:
            found[one.method] = _Look(next_[0], next_[1], "-")
        else:
            found[one.method] = _Look(style.MUTED, "", "-")
    return found


def _steps(one: MethodCurve, limit: float) -> tuple[list[float], list[float]]:
    """Costs and benefits of the frontier up to the limit."""
    kept = [place for place in one.frontier if one.costs[place] <= limit]
    costs, benefits = [max(0.0, one.costs[place]) for place in kept], [one.benefits[place] for place in kept]
    return ([*costs, limit], [*benefits, benefits[-1]]) if kept else ([], [])


def _band(axes: Axes, controls: Sequence[MethodCurve], limit: float) -> None:
    """From the least to the most that random controls reach at every cost."""
    lines = [steps for one in controls if (steps := _steps(one, limit))[0]]
    if not lines:
        return
    places = sorted({cost for costs, _ in lines for cost in costs})
    reached = [[benefits[bisect_right(costs, place) - 1] for costs, benefits in lines] for place in places]
    low, high = [min(values) for values in reached], [max(values) for values in reached]
    axes.fill_between(places, low, high, step="post", color=style.RULE, linewidth=0)
    axes.step(places, high, where="post", color=style.FAINT, linewidth=0.6)
    middle = (limit, (low[-1] + high[-1]) / 2)
    said = axes.annotate("random controls", middle, xytext=(-2, 0), textcoords="offset points", fontsize=style.SMALL)
    said.set(ha="right", va="center", color=style.MUTED)


def _curve(axes: Axes, one: MethodCurve, look: _Look, limit: float) -> None:
    costs, benefits = _steps(one, limit)
    coloured = bool(look.marker)
    colour, width = (look.colour, 1.3) if coloured else (style.FAINT, 0.5)
    axes.step(costs, benefits, where="post", color=colour, linewidth=width, linestyle=look.dash, zorder=2 + coloured)
    if coloured:
        axes.plot(costs[:-1], benefits[:-1], look.marker, color=colour, markersize=3.4, linestyle="none", zorder=4)


def _areas(axes: Axes, ranked: Sequence[MethodCurve], looks: dict[str, _Look], reference: str, limit: float) -> None:
    for y, one in enumerate(ranked):
        colour, found = looks[one.method].colour, one.area
        axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6, alpha=0.6, solid_capstyle="butt")
        axes.plot([found.value], [y], looks[one.method].marker or ".", color=colour, markersize=4)
        if one.improves:
            axes.annotate("+", (found.high, y), xytext=(4, 0), textcoords="offset points", va="center", color=colour)
    own = next((one for one in ranked if one.method == reference), None)
    if own is not None:
        axes.axvline(own.area.value, color=style.FAINT, linewidth=0.6, linestyle=":", zorder=0)
    axes.set_yticks(range(len(ranked)), [style.drawable(one.method.replace("_", " ")) for one in ranked])
    for label, one in zip(axes.get_yticklabels(), ranked, strict=True):
        label.set_color(looks[one.method].colour)
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    note = f" (+ improves on {reference.replace('_', ' ')})" if any(one.improves for one in ranked) else ""
    axes.set_xlabel(f"area up to {limit:g} nat{'' if limit == 1 else 's'}, 95 % intervals{note}")
