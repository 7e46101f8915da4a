"""The results as a Markdown table."""

from gossamer.training.recipe_comparison.grid import DEAD, IMPROVEMENTS
from gossamer.training.recipe_comparison.results import RecipeComparison, Summary

_COLUMNS = {"l0": ".1f", "loss_recovered": ".3f", "explained_variance": ".3f", "dead": ".1%"}
_HEAD = "| variant | coefficient | L0 | CE recovered | explained variance | dead |\n|---|---|---|---|---|---|\n"


def markdown(found: RecipeComparison) -> str:
    """One row a variant and coefficient: mean over seeds and half its 95 % interval."""
    return _HEAD + "".join(_row(one) for one in found.summaries([IMPROVEMENTS, DEAD]))


def _row(one: Summary) -> str:
    cells = [_cell(one.mean[name], one.half[name], style) for name, style in _COLUMNS.items()]
    return f"| {one.variant} | {one.coefficient:g} | " + " | ".join(cells) + " |\n"


def _cell(mean: float, half: float | None, style: str) -> str:
    return format(mean, style) + ("" if half is None else f" ± {half:{style}}")
