"""GPT-2."""

from gossamer.model.family import Family

GPT2 = Family(
    name="GPT-2",
    model_types=("gpt2",),
    layers="transformer.h",
    norm="transformer.ln_f",
    attention_norm="ln_1",
    attention="attn",
    q="attn.c_attn",
    k="attn.c_attn",
    v="attn.c_attn",
    fused="concatenated",
    z="attn.c_proj",
    attn_out="attn",
    mlp_norm="ln_2",
    mlp="mlp",
    mlp_out="mlp",
)
