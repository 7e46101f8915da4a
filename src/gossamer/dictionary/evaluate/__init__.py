"""How good dictionaries are, on a model and its text."""

from gossamer.dictionary.evaluate.evaluation import Evaluation, Position
from gossamer.dictionary.evaluate.measure import Coder, evaluate, evaluate_coders
from gossamer.dictionary.evaluate.saebench import to_saebench

__all__ = ["Coder", "Evaluation", "Position", "evaluate", "evaluate_coders", "to_saebench"]
