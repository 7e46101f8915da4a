"""A language model you can read and edit."""

from gossamer.model.family import Family
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import KINDS, Site

__all__ = ["KINDS", "Family", "LanguageModel", "Site"]
