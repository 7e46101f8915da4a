"""Pictures of a study of relations: what becomes of latents, gates, sizes of communities, effects by similarity."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gossamer.relations.causal import RankAgreement
from gossamer.relations.community_facts import CommunityFacts
from gossamer.relations.lifecycle import sankey
from gossamer.relations.study_results import FoundGate, RelationsPart, RelationStudy
from gossamer.report import style
from gossamer.report.figures.relations import relation_sankey
from gossamer.report.relation_study import at, gate_name, strongest_gates

_GATES, _COLUMNS = 6, 3


def pictures(study: RelationStudy) -> dict[str, Figure]:
    """The figures of what was measured, by name."""
    found = study.found
    made: dict[str, Figure] = {}
    chain = [one for one in at(study, matching="best") if one.threshold == study.settings["threshold"]]
    if chain:
        made["sankey"] = relation_sankey(sankey(chain))
    with style.paper():
        if gates := strongest_gates(found, _GATES):
            made["gates"] = _gates(gates)
        if found.communities:
            made["communities"] = _communities(found.communities)
        if found.agreement:
            made["effects"] = _effects(found)
    return made


def _grid(count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    rows = -(-count // _COLUMNS)
    figure = Figure(figsize=(style.PAGE, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for place in axes[count:]:
        place.set_axis_off()
    return figure, axes[:count]


def _gates(gates: Sequence[FoundGate]) -> Figure:
    """For each gate, how often its output is on at each pattern of its inputs, and how many tokens have the pattern;
    in the counted text, and in the one held out."""
    figure, axes = _grid(len(gates), 1.75)
    for place, one in zip(axes, gates, strict=True):
        tables = (one.gate.table, one.held_out)
        patterns = [f"{pattern:0{tables[0].inputs}b}"[::-1] for pattern in range(len(tables[0].counts))]
        for shift, found, colour, label in zip(
            (-0.2, 0.2), tables, (style.OURS, style.AGAINST), ("counted", "held out"), strict=True
        ):
            counts = np.array(found.counts, float)
            tokens = counts.sum(axis=1)
            shares = counts[:, 1] / np.maximum(tokens, 1)
            where = np.arange(len(patterns)) + shift
            place.bar(where, shares, width=0.36, color=colour, label=label)
            for x, share, total in zip(where, shares, tokens, strict=True):
                place.text(x, share + 0.02, _short(total), fontsize=style.SMALL - 2, ha="center", va="bottom")
        words = [" ".join(word.strip() for word in own[:2]) or "-" for own in one.words]
        inputs = ", ".join(f"{number}: {word}" for number, word in zip(one.gate.inputs, words, strict=False))
        place.set_xticks(range(len(patterns)), patterns)
        place.set_xlabel(style.shortened(f"{inputs} > {words[-1]}", style.PAGE / 3.3), fontsize=style.SMALL)
        place.set_ylim(0, 1.18)
        style.title(place, gate_name(one).replace("resid_post.", "r"), style.PAGE / 3.6)
    axes[0].set_ylabel("output on")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL)
    return figure


def _short(count: float) -> str:
    return f"{count:.0f}" if count < 1000 else f"{count / 1000:.0f}k"


def _communities(found: Sequence[CommunityFacts]) -> Figure:
    """How many communities of each size, by method; a panel a graph."""
    graphs = list(dict.fromkeys((one.measure, one.threshold) for one in found))
    figure, axes = _grid(len(graphs), 1.75)
    for place, graph in zip(axes, graphs, strict=True):
        own = [one for one in found if (one.measure, one.threshold) == graph and one.weighted]
        for number, one in enumerate(own):
            sizes = 2 ** np.arange(len(one.by_size))
            counts = np.where(np.array(one.by_size) > 0, np.array(one.by_size, float), np.nan)
            colour, marker = style.method_colour(number), style.MARKERS[number]
            place.plot(sizes, counts, color=colour, marker=marker, markersize=2.8, linewidth=0.9, label=one.method)
        place.set(xscale="log", yscale="log", xlabel="latents of a community, from")
        style.title(place, f"{graph[0]} from {graph[1]:g}", style.PAGE / 3.3)
    axes[0].set_ylabel("communities")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=style.SMALL)
    return figure


def _effects(found: RelationsPart) -> Figure:
    """For each measure, the effects of ablations by bins of it: median, the middle half, and mean; dotted, what the
    best partners of 1 % of latents reach in shuffled documents."""
    figure, axes = _grid(len(found.agreement), 1.6)
    top = max(high for one in found.agreement for _, high in one.quartiles if not np.isnan(high))
    for place, one in zip(axes, found.agreement, strict=True):
        _bins(place, one)
        if reached := [pair.chance[one.measure] for pair in found.pairs if one.measure in pair.chance]:
            place.axvline(min(max(reached), one.edges[-1]), color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
        place.set(ylim=(min(-0.02, *(low for low, _ in one.quartiles if not np.isnan(low))), 1.05 * top))
        title = f"{one.measure.replace('_', ' ')}: {one.spearman:.2f} [{one.low:.2f}, {one.high:.2f}]"
        style.title(place, title, style.PAGE / 3.2)
    axes[0].set_ylabel("effect / maximum")
    return figure


def _bins(axes: Axes, one: RankAgreement) -> None:
    middles = np.array([(low + high) / 2 for low, high in pairwise(one.edges)])
    low, high = np.array(one.quartiles).T
    axes.vlines(middles, low, high, color=style.OURS, linewidth=2.4, alpha=0.45)
    axes.plot(middles, one.medians, "o", color=style.OURS, markersize=3)
    axes.plot(middles, one.means, "_", color=style.AGAINST, markersize=6)
    axes.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
