"""GPT-NeoX, the architecture of Pythia: attention and MLP in parallel unless the configuration says otherwise."""

from gossamer.model.family import Family

GPT_NEOX = Family(
    name="GPT-NeoX",
    model_types=("gpt_neox",),
    layers="gpt_neox.layers",
    norm="gpt_neox.final_layer_norm",
    attention_norm="input_layernorm",
    attention="attention",
    q="attention.query_key_value",
    k="attention.query_key_value",
    v="attention.query_key_value",
    fused="interleaved",
    z="attention.dense",
    attn_out="post_attention_dropout",
    mlp_norm="post_attention_layernorm",
    mlp="mlp",
    mlp_out="post_mlp_dropout",
    parallel="use_parallel_residual",
)
