"""Llama, and the architectures that share its layout."""

from gossamer.model.family import Family

LLAMA = Family(
    name="Llama",
    model_types=("llama", "qwen2", "qwen3"),
    layers="model.layers",
    norm="model.norm",
    attention="self_attn",
    z="self_attn.o_proj",
    attn_out="self_attn",
    mlp_norm="post_attention_layernorm",
    mlp="mlp",
    mlp_out="mlp",
)
