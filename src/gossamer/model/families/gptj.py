"""GPT-J: attention and MLP in parallel behind one norm; attention outside of transformers' attention interface."""

from gossamer.model.family import Family

GPTJ = Family(
    name="GPT-J",
    model_types=("gptj",),
    layers="transformer.h",
    norm="transformer.ln_f",
    attention_norm="ln_1",
    attention="attn",
    q="attn.q_proj",
    k="attn.k_proj",
    v="attn.v_proj",
    z="attn.out_proj",
    attn_out="attn",
    mlp="mlp",
    mlp_out="mlp",
    parallel=True,
    core="_attn",
    layer_returns_tuple=True,
)
