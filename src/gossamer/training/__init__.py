"""Sparse dictionaries from a model and text."""

from gossamer.training.config import (
    CorpusConfig,
    FinetuneConfig,
    FitConfig,
    LearnerConfig,
    OptimiserConfig,
    Plan,
    TrainingConfig,
)
from gossamer.training.pipeline import train_dictionaries
from gossamer.training.recipes import Recipe, recipe_for
from gossamer.training.text import read_texts

__all__ = [
    "CorpusConfig",
    "FinetuneConfig",
    "FitConfig",
    "LearnerConfig",
    "OptimiserConfig",
    "Plan",
    "Recipe",
    "TrainingConfig",
    "read_texts",
    "recipe_for",
    "train_dictionaries",
]
