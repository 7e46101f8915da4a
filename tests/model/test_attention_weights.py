"""W_Q, W_K, W_V and W_O of every family, against what the model computes with them in float64."""

import pytest
import torch
from tiny_families import CONFIGS, random_hf, random_tokens, shared_model
from transformers.pytorch_utils import Conv1D

from gossamer.errors import UsageError
from gossamer.model import LanguageModel, Site

KINDS = ("attn_in", "q_proj", "k_proj", "q", "k", "v", "scores", "z", "attn_out")
UNROTATED = ("gpt2", "gpt_neo")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_projections_by_head(name):
    model = shared_model(name, dtype=torch.float64)
    layer, tokens = 1, random_tokens()
    with torch.no_grad():
        values = model.capture(tokens, [Site(kind, layer) for kind in KINDS])
        w = model.attention_weights(layer)
    here = {site.kind: value for site, value in values.items()}
    heads, kv_heads, d = model.n_heads, model.n_kv_heads, model.d_head
    assert w.W_Q.shape == (heads, model.d_model, d)
    assert w.W_K.shape == w.W_V.shape == (kv_heads, model.d_model, d)
    assert (w.W_O.shape, w.b_O.shape, w.group) == ((heads, d, model.d_model), (model.d_model,), heads // kv_heads)

    def projected(weight, bias):
        return torch.stack([here["attn_in"] @ weight[head] + bias[head] for head in range(len(weight))], dim=2)

    clip = getattr(model.anatomy.config, "clip_qkv", None) or torch.inf
    torch.testing.assert_close(projected(w.W_Q, w.b_Q), here["q_proj"], **CLOSE)
    torch.testing.assert_close(projected(w.W_K, w.b_K), here["k_proj"], **CLOSE)
    torch.testing.assert_close(projected(w.W_V, w.b_V).clamp(-clip, clip), here["v"], **CLOSE)
    if name in UNROTATED:
        torch.testing.assert_close(here["q_proj"], here["q"], **CLOSE)
        torch.testing.assert_close(here["k_proj"], here["k"], **CLOSE)
    if not model.family.post_norms:
        z = here["z"].view(*tokens.ids.shape, heads, d)
        added = sum(z[:, :, head] @ w.W_O[head] for head in range(heads)) + w.b_O
        torch.testing.assert_close(added, here["attn_out"], **CLOSE)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox parallel", "phi", "granite", "cohere2"])
def test_scores_are_products_of_queries_and_keys(name):
    """Where no cap and no query/key norm stand between: the same factor everywhere, and what is masked is masked."""
    model = shared_model(name, dtype=torch.float64)
    tokens = random_tokens()
    with torch.no_grad():
        values = model.capture(tokens, [Site(kind, 1) for kind in ("q", "k", "scores", "pattern")])
    q, k, scores, pattern = values.values()
    k = k.repeat_interleave(model.n_heads // model.n_kv_heads, dim=2)
    products = torch.einsum("bqhd,bkhd->bhqk", q, k)
    factor = model.anatomy.part(1, "attention").scaling
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    seen = pattern > 0
    assert torch.equal(seen, seen & causal)
    torch.testing.assert_close(scores[seen], (products * factor)[seen], **CLOSE)
    assert (scores[~seen] == torch.finfo(torch.float64).min).all()
    torch.testing.assert_close(scores.softmax(-1), pattern, **CLOSE)


def test_edited_scores_are_what_attention_uses(tokens):
    """Their softmax mixes the values; the mask stays, and an edit of the pattern comes after it."""
    model = shared_model("llama", dtype=torch.float64)
    site, new = Site("scores", 1), torch.randn(3, 4, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    wanted = [Site("pattern", 1), Site("v", 1), Site("z", 1)]
    with torch.no_grad(), model.edit({site: lambda scores: new}):
        pattern, v, z = model.capture(tokens, wanted).values()
    masked = torch.ones(9, 9, dtype=torch.bool).triu(1)
    expected = new.masked_fill(masked, -torch.inf).softmax(-1)
    torch.testing.assert_close(pattern, expected, **CLOSE)
    mixed = torch.einsum("bhqk,bkhd->bqhd", expected, v.repeat_interleave(2, dim=2)).flatten(2)
    torch.testing.assert_close(z, mixed, **CLOSE)


def test_scores_beside_a_sink():
    """The model's own attention leaves a share to a sink; raw scores are products all the same."""
    model, tokens = shared_model("gpt_oss", dtype=torch.float64), random_tokens()
    with torch.no_grad():
        q, k, scores, pattern = model.capture(
            tokens, [Site(kind, 2) for kind in ("q", "k", "scores", "pattern")]
        ).values()
        attention = model.anatomy.part(2, "attention")
        products = torch.einsum("bqhd,bkhd->bhqk", q, k.repeat_interleave(2, dim=2)) * attention.scaling
        sinks = attention.sinks.view(1, -1, 1, 1).expand(3, -1, 9, 1)
        expected = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
        torch.testing.assert_close(scores[pattern > 0], products[pattern > 0], **CLOSE)
        torch.testing.assert_close(pattern, expected, **CLOSE)
        with model.edit({Site("scores", 2): lambda value: value + 1}):
            more = model.capture(tokens, [Site("pattern", 2)])[Site("pattern", 2)]
    expected = torch.cat([scores + 1, sinks], dim=-1).softmax(-1)[..., :-1]
    torch.testing.assert_close(more, expected, **CLOSE)
    assert (more.sum(-1) > pattern.sum(-1)).all()


def test_weights_are_the_models_own():
    hf = random_hf("gpt2")
    w = LanguageModel.load(hf).attention_weights(0)
    assert isinstance(hf.transformer.h[0].attn.c_attn, Conv1D)
    assert w.W_K.untyped_storage().data_ptr() == hf.transformer.h[0].attn.c_attn.weight.untyped_storage().data_ptr()


def test_what_has_no_weights_is_refused():
    model = shared_model("gpt2")
    with pytest.raises(UsageError, match="the model has 3 layers"):
        model.attention_weights(3)
