"""Which changes to how a dictionary learns are worth it: each alone and all together, at several penalties, seeds."""

from gossamer.training.recipe_comparison.grid import RecipeComparisonConfig, Variant, variants
from gossamer.training.recipe_comparison.results import RecipeComparison, Summary, Trained
from gossamer.training.recipe_comparison.study import compare_recipes

__all__ = ["RecipeComparison", "RecipeComparisonConfig", "Summary", "Trained", "Variant", "compare_recipes", "variants"]
