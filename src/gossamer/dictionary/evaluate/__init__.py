"""How good dictionaries are, on a model and its text."""

from gossamer.dictionary.evaluate.evaluation import Evaluation, Position
from gossamer.dictionary.evaluate.measure import evaluate
from gossamer.dictionary.evaluate.saebench import to_saebench

__all__ = ["Evaluation", "Position", "evaluate", "to_saebench"]
