"""The check at load sees wrong facts: each fact of a family is made wrong in turn."""

from dataclasses import replace

import pytest
import torch
from tiny_families import random_hf

from gossamer.errors import GossamerError
from gossamer.model import LanguageModel
from gossamer.model.families.gemma2 import GEMMA2
from gossamer.model.families.gpt2 import GPT2
from gossamer.model.families.gpt_neox import GPT_NEOX
from gossamer.model.families.llama import GRANITE, LLAMA, PHI3
from gossamer.model.families.post_norm import OLMO2

WRONG = {
    "attn_out is not what is added": ("gemma2", replace(GEMMA2, attn_out="self_attn", post_norms=False), "attn_out"),
    "mlp_out is not what is added": ("gemma2", replace(GEMMA2, mlp_out="mlp", post_norms=False), "mlp_out"),
    "attn_out is no norm": (
        "gemma2",
        replace(GEMMA2, attn_out="self_attn"),
        "expected a norm.*found a Gemma2Attention",
    ),
    "attention reads a norm": ("llama", replace(LLAMA, attention_norm=None), "attn_in.0 == the stream"),
    "attention reads no norm": (
        "olmo2",
        replace(OLMO2, attention_norm="post_attention_layernorm"),
        "attn_in.0 == norm",
    ),
    "queries are keys": ("phi3", replace(PHI3, fused="interleaved"), "interleaved projections to q of width 96"),
    "queries and keys take turns": ("gpt2", replace(GPT2, fused="interleaved"), "attn_in @ W_V == v"),
    "queries are elsewhere": ("qwen2", replace(LLAMA, v="self_attn.k_proj"), "attn_in @ W_V == v"),
    "a multiplier forgotten": ("granite", replace(GRANITE, residual_multiplier=None), "resid_mid.0"),
    "a divisor forgotten": ("granite", replace(GRANITE, logit_divisor=None), "logits as the model itself"),
    "an entry that is not there": ("granite", replace(GRANITE, softcap="cap"), "expected the entry cap"),
    "z is read from another module": ("llama", replace(LLAMA, z="self_attn.q_proj"), "z at layer 0"),
    "mlp_norm is another norm": ("llama", replace(LLAMA, mlp_norm="input_layernorm"), "resid_mid"),
    "no cap on logits": ("gemma2", replace(GEMMA2, softcap=None), "logits as the model itself"),
    "a cap that is not there": ("llama", replace(LLAMA, softcap="rms_norm_eps"), "logits as the model itself"),
    "a parallel block called serial": (
        "gpt_neox parallel",
        replace(GPT_NEOX, parallel=False),
        "resid_mid",
    ),
    "a serial block called parallel": ("gpt_neox serial", replace(GPT_NEOX, parallel=True), "mlp_in"),
    "another norm at the end": ("gpt2", replace(GPT2, norm="transformer.h.0.ln_1"), "unembed"),
    "the MLP is elsewhere": ("gpt2", replace(GPT2, mlp="mlp.act"), "mlp_in"),
    "a module that does not exist": ("gpt2", replace(GPT2, mlp_out="feed_forward"), "expected a module feed_forward"),
    "layers that are no list": ("gpt2", replace(GPT2, layers="transformer.wte"), "expected a list of layers"),
    "a module that never runs": ("gpt2", replace(GPT2, z="attn.attn_dropout"), "z.0 is never reached"),
}


@pytest.mark.parametrize("wrong", list(WRONG))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wrong_facts_are_refused(wrong, dtype):
    name, family, expected = WRONG[wrong]
    with pytest.raises(GossamerError, match=expected) as raised:
        LanguageModel.load(random_hf(name, dtype=dtype), family=family)
    assert family.name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_family_of_ones_own_is_taken():
    family = replace(LLAMA, name="mine", model_types=("anything",))
    assert LanguageModel.load(random_hf("qwen2"), family=family).family.name == "mine"
