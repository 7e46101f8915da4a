"""GPT-Neo: its attention does not go through transformers' attention interface."""

from gossamer.model.family import Family

GPT_NEO = Family(
    name="GPT-Neo",
    model_types=("gpt_neo",),
    layers="transformer.h",
    norm="transformer.ln_f",
    attention="attn.attention",
    z="attn.attention.out_proj",
    attn_out="attn",
    mlp_norm="ln_2",
    mlp="mlp",
    mlp_out="mlp",
    core="_attn",
    layer_returns_tuple=True,
)
