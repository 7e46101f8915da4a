"""One tiny random model of every family, with every parameter away from its initial value."""

from functools import cache

import torch
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoConfig,
    OlmoeConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

from gossamer.model import LanguageModel
from gossamer.tokens import Tokens

VOCAB = 61
ROTARY = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
GROUPED = {**ROTARY, "num_key_value_heads": 2}
# head_dim differs from hidden_size / heads, and the window is shorter than the test prompts
GEMMA = {**GROUPED, "head_dim": 12, "sliding_window": 4, "query_pre_attn_scalar": 20}
SLIDING = ["sliding_attention", "sliding_attention", "full_attention"]
GEMMA3 = {**GEMMA, "layer_types": SLIDING}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
LEARNED = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}

CONFIGS = {
    "gpt2": lambda: GPT2Config(n_positions=64, n_embd=32, n_layer=3, n_head=4, **LEARNED),
    "gpt_neo": lambda: GPTNeoConfig(
        max_position_embeddings=64,
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        attention_types=[[["global", "local", "global"], 1]],
        window_size=4,
        **LEARNED,
    ),
    "gpt_neox parallel": lambda: GPTNeoXConfig(use_parallel_residual=True, **ROTARY),
    "gpt_neox serial": lambda: GPTNeoXConfig(use_parallel_residual=False, **ROTARY),
    "llama": lambda: LlamaConfig(**GROUPED),
    "qwen2": lambda: Qwen2Config(**GROUPED),
    "qwen3": lambda: Qwen3Config(**GROUPED, head_dim=12),
    "gemma2": lambda: Gemma2Config(**GEMMA, attn_logit_softcapping=3.0, final_logit_softcapping=5.0),
    "gemma3": lambda: Gemma3TextConfig(**GEMMA3),
    "gemma": lambda: GemmaConfig(**GROUPED, head_dim=12),
    "mistral": lambda: MistralConfig(**GROUPED, sliding_window=4),
    "mixtral": lambda: MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "olmo": lambda: OlmoConfig(**GROUPED, clip_qkv=3.0),
    "olmoe": lambda: OlmoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2),
    "qwen2_moe": lambda: Qwen2MoeConfig(**GROUPED, **EXPERTS, shared_expert_intermediate_size=24),
    "qwen3_moe": lambda: Qwen3MoeConfig(**GROUPED, **EXPERTS, head_dim=12),
    "gpt_oss": lambda: GptOssConfig(
        **{**GROUPED, "head_dim": 12, "sliding_window": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "smollm3": lambda: SmolLM3Config(**GROUPED, no_rope_layers=[1, 1, 0]),
    "starcoder2": lambda: Starcoder2Config(**GROUPED, sliding_window=4),
    "phi3": lambda: Phi3Config(**GROUPED),
    "stablelm parallel": lambda: StableLmConfig(**GROUPED, use_parallel_residual=True, qk_layernorm=True),
    "stablelm serial": lambda: StableLmConfig(**GROUPED, use_parallel_residual=False, use_qkv_bias=True),
    "granite": lambda: GraniteConfig(
        **GROUPED,
        residual_multiplier=0.3,
        logits_scaling=5.0,
        embedding_multiplier=3.0,
        attention_multiplier=0.2,
    ),
    "glm4": lambda: Glm4Config(**GROUPED, head_dim=12, attention_bias=True),
    "olmo2": lambda: Olmo2Config(**GROUPED),
    "olmo3": lambda: Olmo3Config(**GROUPED, sliding_window=4, layer_types=SLIDING),
    "cohere2": lambda: Cohere2Config(**GROUPED, sliding_window=4, layer_types=SLIDING, logit_scale=0.25),
    "phi": lambda: PhiConfig(**GROUPED, partial_rotary_factor=0.5),
    "gptj": lambda: GPTJConfig(n_positions=64, n_embd=32, n_layer=3, n_head=4, rotary_dim=4, **LEARNED),
    "gemma3 multimodal": lambda: Gemma3Config(
        text_config=GEMMA3, vision_config=VISION, mm_tokens_per_image=4, boi_token_index=1, eoi_token_index=2
    ),
}


def random_hf(name, *, dtype=torch.float32, attention=None):
    """A random transformers model; all parameters are moved so that no norm is trivial and no bias is zero."""
    torch.manual_seed(0)
    options = {} if attention is None else {"attn_implementation": attention}
    hf = AutoModelForCausalLM.from_config(CONFIGS[name](), **options).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    if dtype == torch.float64:
        hf.set_experts_implementation("eager")  # the grouped product knows no double
    return hf.to(dtype)


def random_model(name, **options):
    return LanguageModel.load(random_hf(name, **options))


@cache
def shared_model(name, dtype=torch.float32):
    """The same model for all tests of a session, which leave it as they find it."""
    return random_model(name, dtype=dtype)


def random_tokens(batch=3, length=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Tokens.full(torch.randint(3, VOCAB, (batch, length), generator=generator))
