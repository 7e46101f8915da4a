"""Ways to train a dictionary against each other: what they keep at which sparsity, and how many latents die."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from gossamer.report import style
from gossamer.training.recipe_comparison.results import Summary


def ablation(summaries: Sequence[Summary]) -> Figure:
    """L0 against CE recovered, a line a variant over its coefficients, beside the share of dead latents in training.

    Points are means over seeds; bars 95 % intervals. The curves are those of the largest coefficient, where most die.
    """
    names = list(dict.fromkeys(one.variant for one in summaries))
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 3.3), layout="constrained")
        pareto, dead = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for index, name in enumerate(names):
            own = [one for one in summaries if one.variant == name]
            _line(pareto, index, own)
            curve = max(own, key=lambda one: one.coefficient).dead_curve
            dead.plot([seen for seen, _ in curve], [share for _, share in curve], **_looks(index))
        _frames(pareto, dead, summaries)
        handles, labels = pareto.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=style.SMALL, columnspacing=1.2
        )
    return style.settled(figure)


def _looks(index: int) -> dict[str, object]:
    dashes = {} if index == 0 else {"dashes": style.DASHES[(index - 1) % len(style.DASHES)]}
    return {"color": style.method_colour(index), "linewidth": 1.7 if index == 0 else 0.9, **dashes}


def _line(axes: Axes, index: int, own: Sequence[Summary]) -> None:
    points = sorted(own, key=lambda one: one.mean["l0"])
    l0, kept = ([one.mean[name] for one in points] for name in ("l0", "loss_recovered"))
    marker = "o" if index == 0 else style.MARKERS[(index - 1) % len(style.MARKERS)]
    axes.plot(l0, kept, marker=marker, markersize=3, label=own[0].variant, **_looks(index))  # type: ignore[arg-type]
    across, up = ([one.half[name] or 0.0 for one in points] for name in ("l0", "loss_recovered"))
    colour = style.method_colour(index)
    axes.errorbar(l0, kept, xerr=across, yerr=up, fmt="none", ecolor=colour, elinewidth=0.5, alpha=0.6)


def _frames(pareto: Axes, dead: Axes, summaries: Sequence[Summary]) -> None:
    pareto.set_xscale("log")
    pareto.set_xlabel("L0 (active latents a token, held-out text)")
    pareto.set_ylabel("CE recovered")
    ticks = [m * 10.0**e for e in range(-2, 5) for m in (1, 2, 5)]
    low, high = pareto.get_xlim()
    pareto.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    pareto.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    pareto.xaxis.set_minor_formatter(NullFormatter())
    style.title(pareto, "What is kept at which sparsity", style.PAGE / 2)
    style.title(dead, f"Dead latents, coefficient {max(one.coefficient for one in summaries):g}", style.PAGE / 2)
    dead.set_xlabel("tokens seen")
    dead.xaxis.set_major_locator(MaxNLocator(4))
    dead.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}k"))
    dead.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    dead.set_ylim(bottom=0)
    dead.set_ylabel("share of the latents")
