"""Sparse dictionaries from a model and text."""

from gossamer.activations.text import read_texts
from gossamer.training.checks import TrainingWarning
from gossamer.training.config import (
    CorpusConfig,
    DictionarySpec,
    DictionaryTrainerConfig,
    FinetuneConfig,
    FitConfig,
    OptimiserConfig,
    TrainingConfig,
)
from gossamer.training.finished import finetune_dictionaries
from gossamer.training.fit import fit, fit_source, fit_tensors
from gossamer.training.pipeline import train_dictionaries, train_sets
from gossamer.training.recipes import Recipe, recipe_for
from gossamer.training.task_prompts import TaskPrompts
from gossamer.training.transcoders import train_transcoders

__all__ = [
    "CorpusConfig",
    "DictionarySpec",
    "DictionaryTrainerConfig",
    "FinetuneConfig",
    "FitConfig",
    "OptimiserConfig",
    "Recipe",
    "TaskPrompts",
    "TrainingConfig",
    "TrainingWarning",
    "finetune_dictionaries",
    "fit",
    "fit_source",
    "fit_tensors",
    "read_texts",
    "recipe_for",
    "train_dictionaries",
    "train_sets",
    "train_transcoders",
]
