"""A tiny Llama as a GGUF file, as llama.cpp would write it: matrices quantised, query and key rows rearranged."""

import gguf
import numpy as np
import torch
from tiny_families import GROUPED
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, LlamaConfig

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def written(path):
    """The file, and the transformers model of the weights that it holds once dequantised."""
    letters = sorted(ByteLevel.alphabet())
    tokens = ["<|end|>", *letters, "ab"]
    shape = {**GROUPED, "vocab_size": len(tokens), "intermediate_size": 64, "tie_word_embeddings": False}
    torch.manual_seed(0)
    config = LlamaConfig(**shape)
    hf = AutoModelForCausalLM.from_config(config).eval()
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 1)])
    writer.add_token_merges(["a b"])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id):
        add(0)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
            kind = gguf.GGMLQuantizationType.Q8_0 if parameter.dim() == 2 else gguf.GGMLQuantizationType.F32
            stored = gguf.quantize(_arranged(name, parameter.numpy(), config), kind)
            writer.add_tensor(_renamed(name), stored, raw_dtype=kind)
            parameter.copy_(torch.from_numpy(_dequantised(parameter.numpy(), kind)))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return hf


def _renamed(name):
    if not name.startswith("model.layers."):
        return {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[
            name[:-7]
        ] + ".weight"
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _arranged(name, weight, config):
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = next((count for part, count in heads.items() if part in name), None)
    if count is None:
        return weight
    halves = weight.reshape(count, 2, weight.shape[0] // count // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def _dequantised(weight, kind):
    return gguf.dequantize(gguf.quantize(weight, kind), kind)
