"""GPT-Neo: its attention does not go through transformers' attention interface."""

from gossamer.model.family import Family

GPT_NEO = Family(
    name="GPT-Neo",
    model_types=("gpt_neo",),
    layers="transformer.h",
    norm="transformer.ln_f",
    attention_norm="ln_1",
    attention="attn.attention",
    q="attn.attention.q_proj",
    k="attn.attention.k_proj",
    v="attn.attention.v_proj",
    z="attn.attention.out_proj",
    attn_out="attn",
    mlp_norm="ln_2",
    mlp="mlp",
    mlp_out="mlp",
    core="_attn",
    layer_returns_tuple=True,
)
