"""A comparison of recipes in words, tables and pictures."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from gossamer.report import style
from gossamer.report.figures.recipe_comparison import ablation
from gossamer.training.recipe_comparison.grid import BASELINE, DEAD, IMPROVEMENTS
from gossamer.training.recipe_comparison.results import RecipeComparison, Summary
from gossamer.training.recipe_comparison.table import rows

_MEASURES = {"loss_recovered": "cross-entropy recovered", "explained_variance": "explained variance"}


def sentences(found: RecipeComparison) -> Iterator[str]:
    """How many changes are ahead of the baseline at its L0 and how many behind, and where most latents die."""
    changes = [one for one in found.summaries([IMPROVEMENTS, DEAD]) if one.variant != BASELINE]
    for name, said in _MEASURES.items():
        judged = [one for one in changes if one.margin_half.get(name) is not None]
        if judged:
            gaps = [(one.margin[name], one.margin_half[name] or 0.0) for one in judged]
            ahead, behind = sum(gap > half for gap, half in gaps), sum(-gap > half for gap, half in gaps)
            yield (
                f"By {said} at the same L0, {ahead} of {len(judged)} points (a change and a coefficient each) are "
                f"ahead of the baseline beyond the 95 % interval over seeds, {behind} behind; of changes that do "
                "nothing about one in twenty would be one or the other."
            )
    if left := sum(not one.margin for one in changes):
        yield f"{left} of {len(changes)} points lie where the baseline's L0 does not reach and are not held against it."
    if found.trained:
        most = max(found.summaries([IMPROVEMENTS, DEAD]), key=lambda one: one.mean["dead"])
        dead = most.mean["dead"]
        named = f"{most.variant}, coefficient {most.coefficient:g}"
        yield f"Most latents are dead with {named}: {dead:.1%}." if dead else "No latent is dead in any of them."


def sections(found: RecipeComparison) -> Iterator[tuple[str, list[list[str]]]]:
    """A title and a table, the first row its head."""
    if found.trained:
        yield "Every variant and coefficient: mean over seeds and half its 95 % interval", rows(found)


def pictures(found: RecipeComparison) -> dict[str, Figure]:
    """The figures by name. The baseline is in both."""
    baseline = [one for one in found.summaries([IMPROVEMENTS]) if one.variant == BASELINE]
    chosen: dict[str, list[Summary]] = {
        "improvements": found.summaries([IMPROVEMENTS]),
        "dead-latents": [*baseline, *found.summaries([DEAD])],
    }
    return {name: ablation(summaries) for name, summaries in chosen.items() if summaries}


def draw(found: RecipeComparison, folder: Path) -> list[Path]:
    """Write improvements.png and dead-latents.png; returns their paths."""
    drawn = pictures(found)
    for name, figure in drawn.items():
        style.save_png(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]
