"""How a cost grows with one size at a time: what `--growth` of several benchmarks shares."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rows import Row, row

# Of what a measurement gives, by what is shown of it.
Cost = Mapping[str, float]
Grown = Mapping[str, Sequence[tuple[int, Cost]]]


def grown(
    options: argparse.Namespace, sizes: Mapping[str, Sequence[int]], measure: Callable[[argparse.Namespace], Cost]
) -> Grown:
    """Costs at several values of each size, the other sizes as the options have them."""
    return {
        name: [(value, measure(argparse.Namespace(**{**vars(options), name: value}))) for value in values]
        for name, values in sizes.items()
    }


def exponent(points: Sequence[tuple[int, Cost]], cost: str) -> float:
    """Slope of the cost over the size on logarithmic axes, by least squares: 1 is in proportion, 2 is as the square."""
    x, y = ([np.log(one) for one in several] for several in ([p[0] for p in points], [p[1][cost] for p in points]))
    return float(np.polyfit(x, y, 1)[0])


def growth_rows(found: Grown, what: str, units: Mapping[str, str]) -> list[Row]:
    """For each size and cost, the largest beside the smallest."""
    return [
        row(
            f"{what}, {points[-1][0]:,} {name} beside {points[0][0]:,}: {cost}, exponent {exponent(points, cost):.2f}",
            points[-1][1][cost],
            points[0][1][cost],
            unit,
            "reported",
            True,
        )
        for name, points in found.items()
        for cost, unit in units.items()
    ]


def draw(found: Grown, units: Mapping[str, str], path: Path) -> None:
    """A panel a size, a line a cost, as multiples of the smallest; with a line in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(found), 3.0), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(found), sharey=True))
    for panel, (name, points) in zip(panels, found.items(), strict=True):
        sizes = [size for size, _ in points]
        panel.plot(sizes, [size / sizes[0] for size in sizes], color="0.7", linestyle="--", label="in proportion")
        for cost in units:
            values = [one[cost] / points[0][1][cost] for _, one in points]
            panel.plot(sizes, values, marker="o", label=f"{cost}: exponent {exponent(points, cost):.2f}")
        panel.set(xscale="log", yscale="log", xlabel=name)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
        panel.minorticks_off()
        panel.legend(fontsize=7)
    panels[0].set_ylabel("times the smallest")
    figure.savefig(path, dpi=110)
