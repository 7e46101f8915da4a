"""Norms after attention and MLP: in GLM-4 beside those before, in OLMo 2 and 3 instead of them."""

from dataclasses import replace

from gossamer.model.families.llama import LLAMA

GLM4 = replace(
    LLAMA,
    name="GLM-4",
    model_types=("glm4",),
    attn_out="post_self_attn_layernorm",
    mlp_out="post_mlp_layernorm",
    post_norms=True,
)
OLMO2 = replace(
    LLAMA,
    name="OLMo 2",
    model_types=("olmo2", "olmo3"),
    attention_norm=None,
    attn_out="post_attention_layernorm",
    mlp_norm=None,
    mlp_out="post_feedforward_layernorm",
    post_norms=True,
)
