"""Llama, the architectures that share its layout, and those that differ from it in one fact."""

from dataclasses import replace

from gossamer.model.family import Family

LLAMA = Family(
    name="Llama",
    model_types=(
        "llama",
        "qwen2",
        "qwen3",
        "mistral",
        "mixtral",
        "olmo",
        "olmoe",
        "qwen2_moe",
        "qwen3_moe",
        "gemma",
        "gpt_oss",
        "smollm3",
        "starcoder2",
    ),
    layers="model.layers",
    norm="model.norm",
    attention_norm="input_layernorm",
    attention="self_attn",
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    z="self_attn.o_proj",
    attn_out="self_attn",
    mlp_norm="post_attention_layernorm",
    mlp="mlp",
    mlp_out="mlp",
)
PHI3 = replace(
    LLAMA,
    name="Phi-3",
    model_types=("phi3",),
    q="self_attn.qkv_proj",
    k="self_attn.qkv_proj",
    v="self_attn.qkv_proj",
    fused="concatenated",
)
STABLELM = replace(LLAMA, name="StableLM", model_types=("stablelm",), parallel="use_parallel_residual")
GRANITE = replace(
    LLAMA,
    name="Granite",
    model_types=("granite",),
    residual_multiplier="residual_multiplier",
    logit_divisor="logits_scaling",
)
