"""How soon each way to search finds a recipe that breaks at least half of a search's prompts."""

from matplotlib.figure import Figure

from gossamer.circuits.adversarial.results import CIRCUIT, AdversarialResults
from gossamer.report import style


def budget_chart(found: AdversarialResults) -> Figure:
    """Draw the share of searches that succeeded by each budget, with Wilson bands for the circuit's."""
    with style.paper():
        figure = Figure(figsize=(style.PAGE, 2.7), layout="constrained")
        axes = figure.subplots()
        others = [one for one in found.arms if one.letter != CIRCUIT]
        own = found.arm(CIRCUIT)
        axes.fill_between(
            found.budgets,
            [one.low for one in own.solved],
            [one.high for one in own.solved],
            color=style.OURS,
            alpha=0.12,
            linewidth=0,
        )
        for number, arm in enumerate([own, *others]):
            axes.plot(
                found.budgets,
                [one.value for one in arm.solved],
                color=style.method_colour(number),
                marker="o" if number == 0 else style.MARKERS[number - 1],
                linestyle="-" if number == 0 else (0, style.DASHES[number - 1]),
                linewidth=1.8 if number == 0 else 1.0,
                markersize=4,
                label=f"{arm.letter} {arm.name}",
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(found.budgets, [str(one) for one in found.budgets])
        axes.minorticks_off()
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("forward passes of one prompt (a backward pass counts two)")
        axes.set_ylabel("searches that succeeded")
        axes.legend(frameon=False, fontsize=style.SMALL, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
