"""The results as a Markdown table."""

from gossamer.training.recipe_comparison.grid import DEAD, IMPROVEMENTS
from gossamer.training.recipe_comparison.results import MARGINS, RecipeComparison, Summary

_COLUMNS = {"l0": ".1f", "loss_recovered": ".3f", "explained_variance": ".3f", "dead": ".1%"}
_NAMES = ("variant", "coefficient", "L0", "CE recovered", "explained variance", "dead", "CE margin", "EV margin")


def rows(found: RecipeComparison) -> list[list[str]]:
    """One row a variant and coefficient, names of the columns first: mean over seeds and half its 95 % interval.

    Margins are over the baseline at the same L0; a dash where its line does not reach.
    """
    return [list(_NAMES), *map(_row, found.summaries([IMPROVEMENTS, DEAD]))]


def markdown(found: RecipeComparison) -> str:
    """The same rows as Markdown."""
    head, *body = (f"| {' | '.join(row)} |\n" for row in rows(found))
    return "".join([head, "|---" * len(_NAMES), "|\n", *body])


def _row(one: Summary) -> list[str]:
    cells = [_cell(one.mean[name], one.half[name], style) for name, style in _COLUMNS.items()]
    cells += [
        f"{one.margin[name]:+.4f}" + _plus_minus(one.margin_half[name], ".4f") if name in one.margin else "–"
        for name in MARGINS
    ]
    return [one.variant, f"{one.coefficient:g}", *cells]


def _cell(mean: float, half: float | None, style: str) -> str:
    return format(mean, style) + _plus_minus(half, style)


def _plus_minus(half: float | None, style: str) -> str:
    return "" if half is None else f" ± {half:{style}}"
