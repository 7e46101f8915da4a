"""How good dictionaries are, on a model and its text."""

from gossamer.replacement.evaluate.evaluation import Evaluation, Position
from gossamer.replacement.evaluate.measure import evaluate, evaluate_methods
from gossamer.replacement.evaluate.saebench import to_saebench

__all__ = ["Evaluation", "Position", "evaluate", "evaluate_methods", "to_saebench"]
