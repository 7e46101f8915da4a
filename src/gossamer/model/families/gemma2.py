"""Gemma 2: Llama's layout with norms after attention and MLP, scaled embeddings and a cap on the final logits."""

from dataclasses import replace

from gossamer.model.families.llama import LLAMA

GEMMA2 = replace(
    LLAMA,
    name="Gemma 2",
    model_types=("gemma2",),
    attn_out="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_out="post_feedforward_layernorm",
    post_norms=True,
    softcap="final_logit_softcapping",
)
