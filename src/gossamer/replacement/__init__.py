"""The model with dictionaries in its stream: circuits, evaluation, end-to-end training and steering stand on it."""

from gossamer.replacement.replacement_model import ErrorPolicy, ReplacementModel

__all__ = ["ErrorPolicy", "ReplacementModel"]
