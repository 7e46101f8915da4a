"""What becomes of features from layer to layer: a Sankey picture, and how many have a partner at each threshold."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from gossamer.errors import GossamerError
from gossamer.relations.lifecycle import DEAD, GONE, LOST, NEW, PASSED, RARE, SankeyData, ThresholdSweep
from gossamer.report import style

_COLOURS = {
    PASSED: style.OURS,
    GONE: style.AGAINST,
    LOST: "#9a7b1f",
    NEW: "#3f7f5f",
    RARE: style.FAINT,
    DEAD: style.RULE,
}
# From the top of a dictionary's bar downwards: what is passed on lies opposite what was passed on.
_ORDER = (PASSED, NEW, LOST, GONE, RARE, DEAD)
_BAR, _STUB = 0.09, 0.3


def relation_sankey(data: SankeyData) -> Figure:
    """Draw a bar a dictionary, as high as it has latents: on its right what becomes of them, on its left where they
    come from. The blue ribbon between two bars is as high at each end as latents are passed on there: several may share
    a partner. Shares are those of each bar's judged latents (neither dead nor too rare).

    Raises:
        GossamerError: there is no pair of dictionaries.
    """
    if not data.ahead:
        raise GossamerError("sankey: at least one pair of dictionaries expected, found none")
    with style.paper():
        figure = Figure(
            figsize=(max(style.COLUMN, min(style.PAGE * 1.6, 0.95 * len(data.names) + 0.9)), 2.9), layout="constrained"
        )
        axes = figure.add_subplot()
        top = max(data.sizes)
        for place, (name, size) in enumerate(zip(data.names, data.sizes, strict=True)):
            axes.add_patch(Rectangle((place - _BAR / 2, top - size), _BAR, size, facecolor=style.INK, linewidth=0))
            axes.text(place, -0.03 * top, style.drawable(name), ha="center", va="top", fontsize=style.SMALL)
        for place, (ahead, behind) in enumerate(zip(data.ahead, data.behind, strict=True)):
            left, right = (_spans(counts, top) for counts in (ahead, behind))
            _ribbon(axes, (place + _BAR / 2, place + 1 - _BAR / 2), left[PASSED], right[PASSED])
            _stubs(axes, place + _BAR / 2, left, ahead, top, 1)
            _stubs(axes, place + 1 - _BAR / 2, right, behind, top, -1)
        axes.set_xlim(-0.45, len(data.names) - 0.55)
        axes.set_ylim(-0.12 * top, 1.02 * top)
        axes.set_axis_off()
        shown = [kind for kind in _ORDER if any(counts.get(kind) for counts in (*data.ahead, *data.behind))]
        handles = [Rectangle((0, 0), 1, 1, facecolor=_COLOURS[kind], alpha=_shade(kind), linewidth=0) for kind in shown]
        figure.legend(handles, shown, loc="outside lower center", ncols=3, frameon=False, fontsize=style.SMALL)
    return figure


def _shade(kind: str) -> float:
    return 0.35 if kind == PASSED else 0.6


def _spans(counts: Mapping[str, int], top: int) -> dict[str, tuple[float, float]]:
    """Upper and lower end of each class along a bar."""
    found, upper = {}, float(top)
    for kind in _ORDER:
        found[kind] = (upper, upper - counts.get(kind, 0))
        upper -= counts.get(kind, 0)
    return found


def _ribbon(axes: Axes, ends: tuple[float, float], left: tuple[float, float], right: tuple[float, float]) -> None:
    (x0, x1), middle = ends, sum(ends) / 2
    vertices = [(x0, left[0]), (middle, left[0]), (middle, right[0]), (x1, right[0])]
    vertices += [(x1, right[1]), (middle, right[1]), (middle, left[1]), (x0, left[1]), (x0, left[0])]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    axes.add_patch(PathPatch(Path(vertices, codes), facecolor=_COLOURS[PASSED], alpha=_shade(PASSED), linewidth=0))


def _stubs(
    axes: Axes, x: float, spans: Mapping[str, tuple[float, float]], counts: Mapping[str, int], top: int, side: int
) -> None:
    judged = sum(count for kind, count in counts.items() if kind not in (DEAD, RARE))
    for kind, (upper, lower) in spans.items():
        if upper == lower:
            continue
        if kind != PASSED:
            start = x if side > 0 else x - _STUB
            axes.add_patch(
                Rectangle(
                    (start, lower), _STUB, upper - lower, facecolor=_COLOURS[kind], alpha=_shade(kind), linewidth=0
                )
            )
        if kind not in (DEAD, RARE) and upper - lower > 0.045 * top:
            where = (x + side * 0.03, (upper + lower) / 2)
            axes.text(
                *where,
                f"{counts[kind] / judged:.0%}",
                fontsize=style.SMALL,
                ha="left" if side > 0 else "right",
                va="center",
            )


def relation_sweep(sweeps: Mapping[str, Sequence[ThresholdSweep]]) -> Figure:
    """Draw, for each measure, the share of judged latents whose best partner reaches a threshold: upstream latents to
    the left, downstream ones to the right; a line a pair of dictionaries (the names of `sweeps`), dark for late ones,
    and dotted what shuffled documents reach.

    Raises:
        GossamerError: nothing was swept, or other measures by pair.
    """
    measures = {tuple(one.measure for one in found) for found in sweeps.values()}
    if len(measures) != 1 or not next(iter(measures)):
        raise GossamerError(f"sweep: the same measures for every pair expected, found {sorted(measures)}")
    names = next(iter(measures))
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 0.5 + 1.75 * len(names)), layout="constrained")
        grid = figure.subplots(len(names), 2, sharex=True, sharey=True, squeeze=False)
        for row, measure in enumerate(names):
            for place, (pair, found) in enumerate(sweeps.items()):
                share = (place + 1) / len(sweeps)
                colour = style.mix(style.PAPER, style.OURS, 0.25 + 0.75 * share)
                one = found[row]
                for axes, counts, judged in zip(grid[row], (one.forward, one.backward), one.judged, strict=True):
                    axes.plot(
                        one.thresholds, np.asarray(counts) / max(judged, 1), color=colour, linewidth=1.1, label=pair
                    )
                chance = "shuffled documents" if place == len(sweeps) - 1 else None
                null = (one.null_forward, one.null_backward)
                for axes, reached, judged in zip(grid[row], null, one.judged, strict=True):
                    if reached is not None:
                        shares, dotted = np.asarray(reached) / max(judged, 1), (0, (1, 1.5))
                        axes.plot(
                            one.thresholds, shares, color=style.MUTED, linewidth=0.8, linestyle=dotted, label=chance
                        )
            grid[row][0].set_ylabel("share of judged latents")
            for axes, side in zip(grid[row], ("upstream", "downstream"), strict=True):
                axes.set_title(f"{measure.replace('_', ' ')}, {side}")
                axes.set(xlim=(0, 1), ylim=(0, 1.02))
        for axes in grid[-1]:
            axes.set_xlabel("threshold")
        handles, labels = grid[0][0].get_legend_handles_labels()
        said = [style.drawable(one) for one in labels]
        figure.legend(handles, said, loc="outside lower center", ncols=3, frameon=False, fontsize=style.SMALL)
    return figure
