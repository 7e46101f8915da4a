"""Phi and Cohere 2: attention and MLP in parallel behind one norm."""

from dataclasses import replace

from gossamer.model.families.llama import LLAMA

COHERE2 = replace(
    LLAMA,
    name="Cohere 2",
    model_types=("cohere2",),
    mlp_norm=None,
    parallel=True,
    logit_multiplier="logit_scale",
)
PHI = replace(
    LLAMA,
    name="Phi",
    model_types=("phi",),
    norm="model.final_layernorm",
    z="self_attn.dense",
    mlp_norm=None,
    parallel=True,
)
