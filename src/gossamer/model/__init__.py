"""A language model you can read, edit and generate with."""

from gossamer.model.editing import positions
from gossamer.model.family import Family
from gossamer.model.generation import Generation, Step
from gossamer.model.kinds import KINDS, SITE_KINDS, SiteKind
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.model.weights import AttentionWeights

__all__ = [
    "KINDS",
    "SITE_KINDS",
    "AttentionWeights",
    "Family",
    "Generation",
    "LanguageModel",
    "Site",
    "SiteKind",
    "Step",
    "positions",
]
