"""Pictures of an IOI study: heads, changed prompts, latents at the second mention, and what pairs explain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from gossamer.attention.ioi.results import Estimate, IOIStudy, StudyPart
from gossamer.report import style

_PALETTE = ("#9aa3ad", style.AGAINST, "#9a7b1f", style.OURS, "#3f7f5f", "#d4d9de", "#7a5c99")
_LATENTS = 8


def pictures(study: IOIStudy) -> dict[str, Figure]:
    """The figures of what was measured, by name."""
    found = study.found
    made: dict[str, Figure] = {}
    with style.paper():
        if found.heads:
            made["heads"] = _heads(found)
        if found.noised:
            made["noising"] = _noising(found)
        if found.latents:
            made["latents"] = _latents(found)
        if found.scores:
            made["scores"] = _scores(found)
    return made


def _heads(found: StudyPart) -> Figure:
    """Layers x heads at S2 and at END; name-moving heads are framed."""
    figure = Figure(figsize=(style.PAGE, 2.3), layout="constrained")
    axes = figure.subplots(1, 2)
    for place, role in zip(axes, ("S2", "END"), strict=True):
        own = [one for one in found.heads if one.role == role]
        layers, heads = sorted({one.head.layer for one in own}), 1 + max(one.head.head for one in own)
        grid = np.zeros((len(layers), heads))
        for one in own:
            grid[layers.index(one.head.layer), one.head.head] = one.reported.value
        most = max(0.05, float(np.abs(grid).max()))
        image = place.imshow(grid, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", origin="lower")
        place.set_yticks(range(len(layers)), [str(layer) for layer in layers])
        place.set_xticks(range(0, heads, 2))
        place.set_xlabel("head")
        place.set_ylabel("layer")
        style.title(place, f"Heads patched at {role}: share of the change", style.PAGE / 2.3)
        for head in found.name_movers if role == "END" else []:
            frame: dict[str, Any] = {"fill": False, "edgecolor": style.INK, "linewidth": 1.0}
            place.add_patch(Rectangle((head.head - 0.5, layers.index(head.layer) - 0.5), 1, 1, **frame))
        figure.colorbar(image, ax=place, pad=0.01, aspect=12)
    return figure


def _noising(found: StudyPart) -> Figure:
    """What is kept of the logit difference, with intervals; small dots are templates."""
    sets = sorted({one.layers for one in found.noised}, key=len)
    changes = [one.change for one in found.noised if one.layers == sets[0] and one.change != "none"]
    figure = Figure(figsize=(style.PAGE * 0.72, 0.5 + 0.23 * len(changes)), layout="constrained")
    axes = figure.subplots()
    for number, (layers, colour) in enumerate(zip(sets, (style.OURS, style.AGAINST), strict=False)):
        rows = {one.change: one for one in found.noised if one.layers == layers}
        named = f"layer {', '.join(map(str, layers))}" if len(layers) < 3 else "all layers"
        heights = [len(changes) - place + (0.14 - 0.28 * number) for place in range(len(changes))]
        _dots(axes, [rows[change].kept for change in changes], heights, colour, f"attn_out of {named} at S2")
        for height, change in zip(heights, changes, strict=True):
            single = [value for name, value in rows[change].by_group.items() if name not in ("ABBA", "BABA")]
            axes.plot(single, [height] * len(single), ".", color=colour, alpha=0.35, markersize=2.5)
    axes.set_yticks([len(changes) - place for place in range(len(changes))], changes)
    for value in (0, 1):
        axes.axvline(value, color=style.RULE, linewidth=0.8, zorder=0)
    axes.set_xlabel("share of the logit difference that is kept")
    axes.legend(frameon=False, fontsize=style.SMALL, loc="upper left", bbox_to_anchor=(0, 1))
    style.title(axes, "Attention outputs at S2 from changed prompts", style.PAGE * 0.6)
    return figure


def _dots(axes: Axes, values: Sequence[Estimate], heights: Sequence[float], colour: str, label: str) -> None:
    middle = [one.value for one in values]
    low, high = [one.low for one in values], [one.high for one in values]
    axes.hlines(heights, low, high, color=colour, linewidth=1.0)
    axes.plot(middle, heights, "o", color=colour, markersize=3.6, label=label)


def _latents(found: StudyPart) -> Figure:
    """Effects of the strongest latents by order, and where they came from."""
    ranked = sorted((one for one in found.latents if one.latent >= 0), key=lambda one: -abs(one.chosen))[:_LATENTS]
    figure = Figure(figsize=(style.PAGE, 0.75 + 0.25 * len(ranked)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25)) if found.sources else (figure.subplots(), None)
    names = [f"{one.site}/{one.latent}" for one in ranked]
    for shift, order, colour in ((0.15, "ABBA", style.OURS), (-0.15, "BABA", style.AGAINST)):
        heights = [len(ranked) - place + shift for place in range(len(ranked))]
        left.barh(heights, [one.by_order[order] for one in ranked], height=0.27, color=colour, label=order)
    left.set_yticks([len(ranked) - place for place in range(len(ranked))], names)
    left.axvline(0, color=style.FAINT, linewidth=0.6)
    left.set_xlabel("share of the logit difference lost")
    left.legend(frameon=False, fontsize=style.SMALL, loc="lower right")
    style.title(left, "Latents ablated at S2", style.PAGE / 2.4)
    if right is not None:
        _origins(right, found, names)
    return figure


def _origins(axes: Axes, found: StudyPart, names: Sequence[str]) -> None:
    """Bars of absolute shares by role, the two orders above each other."""
    for shift, order in ((0.2, "ABBA"), (-0.2, "BABA")):
        rows = {f"{one.site}/{one.latent}": one.shares for one in found.sources if one.order == order and one.shares}
        for place, name in enumerate(names):
            if name not in rows:
                continue
            sizes = np.abs(list(rows[name].values()))
            edges = np.concatenate([[0], np.cumsum(sizes / sizes.sum())])
            for colour, start, end in zip(_PALETTE, edges, edges[1:], strict=False):
                axes.barh(len(names) - place + shift, end - start, left=start, height=0.36, color=colour)
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(0.4, len(names) + 0.6)
    axes.set_xlabel("share by source, in absolute values")
    known = next((one.shares for one in found.sources if one.shares), {})
    handles = [Patch(color=colour, label=source) for source, colour in zip(known, _PALETTE, strict=False)]
    look: dict[str, Any] = {"frameon": False, "fontsize": style.SMALL - 0.5, "handlelength": 1}
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), **look)
    style.title(axes, "and where they came from (above ABBA, below BABA)", style.PAGE / 1.9)


def _scores(found: StudyPart) -> Figure:
    """Variance explained against the number of pairs, for each name-moving head; pairs of latents, and of any parts."""
    heads = list(dict.fromkeys(one.head for one in found.scores))
    figure = Figure(figsize=(min(style.PAGE, 0.6 + 2.1 * len(heads)), 2.1), layout="constrained")
    for axes, head in zip(np.atleast_1d(figure.subplots(1, len(heads), sharey=True)), heads, strict=True):
        for one in (one for one in found.scores if one.head == head):
            dashes = "-" if one.target == "IO" else (0, (3, 1.3))
            for values, colour, what in (
                (one.explained, style.OURS, "latents"),
                (one.explained_by_any, style.AGAINST, "any parts"),
            ):
                line = axes.plot([int(k) for k in values], list(values.values()), color=colour, linestyle=dashes)[0]
                line.set(linewidth=1.2, marker="o", markersize=2.2, label=f"{what}, {one.target}")
        axes.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(-0.25, 1.02)
        axes.set_xlabel("pairs")
        style.title(axes, f"Head {head}", 2.0)
    first = figure.axes[0]
    first.set_ylabel("variance explained")
    first.legend(frameon=False, fontsize=style.SMALL - 0.5, loc="upper left", labelspacing=0.2)
    return figure
