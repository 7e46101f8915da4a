"""How well known features are recovered, as sparsity, width and penalty vary."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from gossamer.errors import GossamerError
from gossamer.report import style
from gossamer.toys.sweep import PAIRS, PROGRAM_TOYS, SUPERPOSITION, USUAL, Recovered, Sweep

_COLOURS = (style.OURS, style.AGAINST, "#3f7f5f")
_LOOKS: dict[str, dict[str, Any]] = {
    "l1": {"marker": "o", "linestyle": "-", "markersize": 3.4},
    "batchtopk": {"marker": "s", "linestyle": (0, (3, 1.3)), "markersize": 3.2},
}
_NAMES = {"l1": "L1", "batchtopk": "BatchTopK"}
_SHARES: dict[str, tuple[str, Callable[[Recovered], float]]] = {
    "features recovered": (style.OURS, lambda one: one.recovered),
    "features split": ("#9a7b1f", lambda one: one.split / one.features),
    "latents dead": (style.MUTED, lambda one: one.dead / one.latents),
    "latents duplicate": ("#7a5c99", lambda one: one.duplicate / one.latents),
    "latents merged": (style.AGAINST, lambda one: one.merged / one.latents),
}


def recovery(sweep: Sweep) -> Figure:
    """Draw matched cosine against L0, what becomes of latents as width varies, and correlated features.

    Points are means over seeds, with bars from the least to the most.

    Raises:
        GossamerError: the sweep holds nothing.
    """
    if not sweep.found:
        raise GossamerError("sweep of toys: at least one dictionary expected, found none")
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 5.0), layout="constrained")
        grid = figure.add_gridspec(2, 6)
        above = [figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])]
        _against_l0(above[0], sweep, SUPERPOSITION, "Features in superposition, active with probability p")
        _against_l0(above[1], sweep, PROGRAM_TOYS, "Labelled directions of compiled programs")
        below = [figure.add_subplot(grid[1, 2 * place : 2 * place + 2]) for place in range(3)]
        for axes, objective in zip(below, USUAL, strict=False):
            _widths(axes, sweep, objective)
        _pairs(below[2], sweep)
    return figure


def _against_l0(axes: Axes, sweep: Sweep, toys: Sequence[str], title: str) -> None:
    axes.axvline(1, color=style.RULE, linewidth=0.8)
    for toy, colour in zip(toys, _COLOURS, strict=True):
        for objective, look in _LOOKS.items():
            groups = sorted(sweep.of(toy=toy, objective=objective, width=1.0), key=lambda group: group[0].penalty)
            if not groups:
                continue
            xs = [_mean(found, lambda one: one.l0 / one.true_l0) for _, found in groups]
            gid = f"{toy}-{objective}"
            _points(axes, xs, [found for _, found in groups], lambda one: one.matched_cosine, colour, gid, look)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([2.0**power for power in range(-4, 8)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("L0 / true L0 (penalty swept)")
    axes.set_ylabel("matched cosine")
    style.title(axes, title, style.PAGE / 2)
    named = [toy.replace("superposition ", "p = ").replace("_", " ") for toy in toys]
    handles = [Line2D([], [], color=colour, label=name) for colour, name in zip(_COLOURS, named, strict=True)]
    handles += [
        Line2D([], [], color=style.MUTED, linewidth=1.0, label=_NAMES[name], **look) for name, look in _LOOKS.items()
    ]
    axes.legend(handles=handles, fontsize=style.SMALL, frameon=False, loc="lower left", labelspacing=0.25)


def _widths(axes: Axes, sweep: Sweep, objective: str) -> None:
    toy = SUPERPOSITION[1]
    groups = sorted(sweep.of(toy=toy, objective=objective, penalty=USUAL[objective]), key=lambda group: group[0].width)
    xs = [case.width for case, _ in groups]
    for name, (colour, share) in _SHARES.items():
        look = {"marker": "o", "markersize": 2.8, "linestyle": "-", "label": name}
        _points(axes, xs, [found for _, found in groups], share, colour, f"{objective}-{name}", look)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(xs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("latents a feature")
    axes.set_ylabel("share")
    style.title(axes, f"{_NAMES[objective]}, {toy.replace('superposition ', 'p = ')}", style.PAGE / 3)
    if objective == "l1" and groups:
        axes.legend(fontsize=style.SMALL - 0.8, frameon=False, labelspacing=0.2, handlelength=1.2, loc="center right")


def _pairs(axes: Axes, sweep: Sweep) -> None:
    """A row for each kind of features and width: shares of features recovered and of latents merged."""
    kinds = {SUPERPOSITION[1]: "independent", **{toy: toy for toy in PAIRS}}
    rows = [(toy, width) for toy in kinds for width in (1.0, 0.5)]
    for place, (toy, width) in enumerate(rows):
        for shift, (objective, look) in zip((-0.14, 0.14), _LOOKS.items(), strict=True):
            for case, found in sweep.of(toy=toy, width=width, objective=objective):
                if case.penalty == USUAL[objective]:
                    _row(axes, place + shift, found, look)
        axes.axhline(place + 0.5, color=style.RULE, linewidth=0.5)
    names = [f"{kinds[toy]}\n{width:g} a feature" for toy, width in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=style.SMALL - 0.8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.04, 1.04)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("blue recovered, orange merged\n○ L1, □ BatchTopK")
    style.title(axes, "Features in pairs", style.PAGE / 3)


def _row(axes: Axes, y: float, found: Sequence[Recovered], look: dict[str, Any]) -> None:
    for name in ("features recovered", "latents merged"):
        colour, share = _SHARES[name]
        values = [share(one) for one in found]
        axes.plot([min(values), max(values)], [y, y], color=colour, linewidth=0.8, alpha=0.6)
        axes.plot([sum(values) / len(values)], [y], marker=look["marker"], color=colour, markersize=3.4, linewidth=0)


def _points(
    axes: Axes,
    xs: Sequence[float],
    groups: Sequence[Sequence[Recovered]],
    value: Callable[[Recovered], float],
    colour: str,
    gid: str,
    look: dict[str, Any],
) -> None:
    axes.plot(xs, [_mean(found, value) for found in groups], color=colour, linewidth=1.1, gid=gid, **look)
    for x, found in zip(xs, groups, strict=True):
        values = [value(one) for one in found]
        axes.plot([x, x], [min(values), max(values)], color=colour, linewidth=0.7, alpha=0.6)


def _mean(found: Sequence[Recovered], value: Callable[[Recovered], float]) -> float:
    return sum(map(value, found)) / len(found)
