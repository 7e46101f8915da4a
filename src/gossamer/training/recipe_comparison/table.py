"""The results as a Markdown table."""

from gossamer.training.recipe_comparison.grid import DEAD, IMPROVEMENTS
from gossamer.training.recipe_comparison.results import MARGINS, RecipeComparison, Summary

_COLUMNS = {"l0": ".1f", "loss_recovered": ".3f", "explained_variance": ".3f", "dead": ".1%"}
_NAMES = ("variant", "coefficient", "L0", "CE recovered", "explained variance", "dead", "CE margin", "EV margin")
_HEAD = f"| {' | '.join(_NAMES)} |\n" + "|---" * len(_NAMES) + "|\n"


def markdown(found: RecipeComparison) -> str:
    """One row a variant and coefficient: mean over seeds and half its 95 % interval.

    Margins are over the baseline at the same L0; a dash where its line does not reach.
    """
    return _HEAD + "".join(_row(one) for one in found.summaries([IMPROVEMENTS, DEAD]))


def _row(one: Summary) -> str:
    cells = [_cell(one.mean[name], one.half[name], style) for name, style in _COLUMNS.items()]
    cells += [
        f"{one.margin[name]:+.4f}" + _plus_minus(one.margin_half[name], ".4f") if name in one.margin else "–"
        for name in MARGINS
    ]
    return f"| {one.variant} | {one.coefficient:g} | " + " | ".join(cells) + " |\n"


def _cell(mean: float, half: float | None, style: str) -> str:
    return format(mean, style) + _plus_minus(half, style)


def _plus_minus(half: float | None, style: str) -> str:
    return "" if half is None else f" ± {half:{style}}"
