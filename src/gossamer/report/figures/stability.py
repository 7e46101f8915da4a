"""Would another run find the same circuit: agreement over samples of the prompts, halves and sizes."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.report import claims, style

_NUMBERED = 8  # largest matrix whose cells carry their numbers
_NAMES = {"bootstrap": "samples of the prompts", "split": "halves of the training prompts", "size": "sizes on one path"}


def stability(findings: Findings) -> Figure:
    """One column a kind of variation, Jaccard index above containment, with circuit sizes beside the labels.

    Raises:
        GossamerError: nothing was varied.
    """
    # What rankings agree in is a number beside the searches', and said in the title.
    overlaps = [overlap for overlap in findings.stability if overlap.kind != "gradients"]
    if not overlaps:
        raise GossamerError("stability: expected circuits over samples, halves or sizes, found none")
    with style.paper():
        # One kind alone has its two matrices side by side: above one another they would be a page high.
        size = (0.8 * style.PAGE, 2.5) if len(overlaps) == 1 else (style.PAGE * len(overlaps) / 3, 4.1)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, 2, squeeze=False).T if len(overlaps) == 1 else figure.subplots(2, len(overlaps))
        shades = LinearSegmentedColormap.from_list(
            "agreement", [style.PAPER, style.mix(style.PAPER, style.OURS, 0.45), style.OURS]
        )
        for (above, below), overlap in zip(grid.T, overlaps, strict=True):
            labels = [
                label if label == str(size) else f"{label} ({size:,})"
                for label, size in zip(overlap.labels, overlap.sizes, strict=True)
            ]
            _heat(above, overlap.jaccard, labels, shades)
            image = _heat(below, overlap.containment, labels, shades)
            for axes in (below, above) if len(overlaps) == 1 else (below,):
                axes.set_xticks(range(len(labels)), map(style.drawable, overlap.labels), rotation=45, ha="right")
            if len(overlaps) > 1:
                above.set_title(_NAMES.get(overlap.kind, style.drawable(overlap.kind)), fontweight="normal")
        for axes, what in zip(grid[:, 0], ("Jaccard index", "containment in the larger"), strict=True):
            axes.set_ylabel(what)
        figure.colorbar(image, ax=grid, shrink=0.4, aspect=18, pad=0.01).outline.set_visible(False)
        # Bold, and a size larger than the other titles.
        sentence = style.broken(claims.stability(findings) or "Circuits on one path, by size", 0.96 * size[0])
        figure.suptitle(sentence, x=0.01, ha="left", fontsize=style.SIZE + 0.5, fontweight="bold")
    return figure


def _heat(
    axes: Axes, matrix: Sequence[Sequence[float]], labels: Sequence[str], shades: LinearSegmentedColormap
) -> AxesImage:
    image = axes.imshow(matrix, cmap=shades, vmin=0, vmax=1, aspect="equal")
    axes.set_yticks(range(len(labels)), map(style.drawable, labels))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(labels) <= _NUMBERED:
        for y, row in enumerate(matrix):
            for x, value in enumerate(row):
                ink = style.PAPER if value > 0.6 else style.INK
                axes.text(
                    x,
                    y,
                    f"{value:.2f}".removeprefix("0"),
                    ha="center",
                    va="center",
                    fontsize=style.SMALL - 0.5,
                    color=ink,
                )
    return image
