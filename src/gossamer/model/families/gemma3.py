"""Gemma 3: the layout of Gemma 2; models that also read images keep their language model one level further in."""

from dataclasses import replace

from gossamer.model.families.gemma2 import GEMMA2

GEMMA3 = replace(GEMMA2, name="Gemma 3", model_types=("gemma3_text",))
GEMMA3_MULTIMODAL = replace(
    GEMMA3,
    name="Gemma 3 (multimodal)",
    model_types=("gemma3",),
    layers="model.language_model.layers",
    norm="model.language_model.norm",
)
