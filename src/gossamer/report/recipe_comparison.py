"""The pictures of an ablation."""

from pathlib import Path

from gossamer.report import style
from gossamer.report.figures.recipe_comparison import ablation
from gossamer.training.recipe_comparison.grid import BASELINE, DEAD, IMPROVEMENTS
from gossamer.training.recipe_comparison.results import RecipeComparison


def draw(found: RecipeComparison, folder: Path) -> list[Path]:
    """Write improvements.png and dead-latents.png; returns their paths. The baseline is in both."""
    baseline = [one for one in found.summaries([IMPROVEMENTS]) if one.variant == BASELINE]
    pictures = {
        "improvements.png": found.summaries([IMPROVEMENTS]),
        "dead-latents.png": [*baseline, *found.summaries([DEAD])],
    }
    for name, summaries in pictures.items():
        style.save_png(ablation(summaries), folder / name)
    return [folder / name for name in pictures]
