"""A study of indirect object identification: heads, paths, latents and scores, chosen on some prompts and reported on
others."""

from gossamer.attention.ioi.patching import AttentionHead, head_effects, layer_effects, path_effects
from gossamer.attention.ioi.results import IOIStudy
from gossamer.attention.ioi.study import PARTS, StudyOptions, ioi_study
from gossamer.attention.ioi.survey import survey_heads

__all__ = [
    "PARTS",
    "AttentionHead",
    "IOIStudy",
    "StudyOptions",
    "head_effects",
    "ioi_study",
    "layer_effects",
    "path_effects",
    "survey_heads",
]
