"""Scores of explanations beside their controls."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from gossamer.explain.summary import RANDOM_WEIGHTS, SummaryLine
from gossamer.report import style

# What a control looks like; shape and fill say it as well as colour.
_LOOKS = {
    "": ("o", style.OURS, style.OURS, "the feature's own"),
    "shuffled": ("D", style.AGAINST, style.PAPER, "another feature's (shuffled)"),
    RANDOM_WEIGHTS: ("s", style.MUTED, style.PAPER, "a model of random weights"),
}
_ROW = 0.24


def explanation_scores(lines: Sequence[SummaryLine]) -> Figure:
    """A row a method, judge and scorer; means over features with 95 % intervals, controls in the same row."""
    shown = [line for line in lines if line.mean is not None]
    rows = list(dict.fromkeys((line.method, line.judge, line.scorer) for line in shown))
    # Only what tells the rows apart is written.
    differ = [len({row[part] for row in rows}) > 1 for part in range(3)]
    labels = [", ".join(name for name, kept in zip(row, differ, strict=True) if kept) or row[2] for row in rows]
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 0.9 + _ROW * len(rows)), layout="constrained")
        axes = figure.subplots()
        for line in shown:
            assert line.mean is not None
            marker, colour, fill, _ = _LOOKS[line.control]
            height = rows.index((line.method, line.judge, line.scorer))
            axes.plot([line.mean.low, line.mean.high], [height, height], color=colour, linewidth=1)
            axes.plot(line.mean.value, height, marker, color=colour, markerfacecolor=fill, markersize=4.5)
        axes.axvline(0.5, color=style.FAINT, linewidth=0.6, dashes=(3, 2))
        axes.set_yticks(range(len(rows)), [style.drawable(label.replace("_", ", ")) for label in labels])
        axes.invert_yaxis()
        axes.set_xlim(min(0.0, *(line.mean.low for line in shown if line.mean)), 1.02)
        axes.set_xlabel("mean over features (balanced accuracy; correlation for simulation)")
        controls = list(dict.fromkeys(line.control for line in shown))
        for control in controls:
            marker, colour, fill, name = _LOOKS[control]
            axes.plot([], [], marker, color=colour, markerfacecolor=fill, markersize=4.5, label=name)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(controls), frameon=False)
    return figure
