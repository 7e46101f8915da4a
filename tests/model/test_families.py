"""What has to hold for every family, on tiny random models with sliding windows, caps, grouped queries and norms."""

import pytest
import torch
from tiny_families import CONFIGS, random_hf, random_model, random_tokens, shared_model
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.tokens import Tokens

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def all_sites(model):
    return [site for kind in model.kinds for site in model.sites(kind)]


def shape_of(model, site, batch, pos):
    sizes = {"batch": batch, "pos": pos, "query": pos, "key": pos, "d_model": model.d_model, "d_head": model.d_head}
    sizes |= {"head": model.n_heads, "kv_head": model.n_kv_heads, "head*d_head": model.n_heads * model.d_head, "one": 1}
    return tuple(sizes[axis] for axis in site.facts.axes)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_logits_are_those_of_the_model_itself(name):
    tokens, model = random_tokens(), shared_model(name)
    expected = random_hf(name)(input_ids=tokens.ids).logits
    # Not to the bit: a product may be split differently where its inputs lie differently in memory.
    torch.testing.assert_close(model.logits(tokens), expected, rtol=0, atol=1e-5)


def test_identity_edits_leave_every_bit(model, tokens):
    plain = model.logits(tokens)
    for site in (site for site in all_sites(model) if site.layer in (None, 1)):
        with model.edit({site: torch.clone}):
            assert torch.equal(model.logits(tokens), plain), site
    with model.edit(dict.fromkeys(all_sites(model), torch.clone)):
        assert torch.equal(model.logits(tokens), plain)
    assert torch.equal(model.logits(tokens), plain)


def test_the_stream_is_the_sum_of_what_is_added(model, tokens):
    values = model.capture(tokens, all_sites(model))
    stream = values[Site("embed")]
    for layer in range(model.n_layers):
        assert torch.equal(values[Site("resid_pre", layer)], stream)
        middle = stream + values[Site("attn_out", layer)]
        if not model.anatomy.parallel:
            torch.testing.assert_close(values[Site("resid_mid", layer)], middle, **CLOSE)
        stream = values[Site("resid_post", layer)]
        torch.testing.assert_close(middle + values[Site("mlp_out", layer)], stream, **CLOSE)
    torch.testing.assert_close(model.unembed(stream), model.logits(tokens), **CLOSE)


def test_shapes_and_widths(model, tokens):
    for site, value in model.capture(tokens, all_sites(model)).items():
        assert value.shape == shape_of(model, site, *tokens.ids.shape), site
        if site.facts.axes[-1] != "key":
            assert value.shape[-1] == model.width(site)


def test_pattern_times_values_is_z(model, tokens):
    values = model.capture(tokens, [site for kind in ("pattern", "v", "z") for site in model.sites(kind)])
    for layer in range(model.n_layers):
        v = values[Site("v", layer)].repeat_interleave(model.n_heads // model.n_kv_heads, dim=2)
        pattern = values[Site("pattern", layer)]
        if not hasattr(model.anatomy.part(layer, "attention"), "sinks"):  # a sink takes the rest
            torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]), **CLOSE)
        assert pattern.triu(1).abs().max() == 0
        z = torch.einsum("bhqk,bkhd->bqhd", pattern, v).flatten(2)
        torch.testing.assert_close(z, values[Site("z", layer)], **CLOSE)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gemma3"])
def test_pattern_is_the_one_of_eager_attention(name):
    tokens = random_tokens()
    hf = random_hf(name, attention="eager")
    expected = hf(input_ids=tokens.ids, output_attentions=True).attentions
    model = random_model(name)
    found = model.capture(tokens, model.sites("pattern"))
    for layer, pattern in enumerate(expected):
        torch.testing.assert_close(found[Site("pattern", layer)], pattern, **CLOSE)


def test_zero_edits_do_what_they_say(model, tokens):
    """Removing what a part adds gives the stream without it, computed outside the model."""
    layer = 1
    parts = [Site(kind, layer) for kind in ("resid_pre", "attn_out", "mlp_out")]
    with model.edit({Site("attn_out", layer): torch.zeros_like, Site("mlp_out", layer): torch.zeros_like}):
        read = model.capture(tokens, [*parts, Site("resid_post", layer)])
    assert torch.equal(read[Site("resid_post", layer)], read[Site("resid_pre", layer)])
    assert read[Site("attn_out", layer)].abs().max() == 0


def test_editing_q_k_v_z_and_pattern_agree(model, tokens):
    """Zero values, a zero pattern and zero head outputs are three ways of saying the same."""
    layer = 1
    outcomes = []
    for kind in ("v", "pattern", "z"):
        with model.edit({Site(kind, layer): torch.zeros_like}):
            outcomes.append(model.logits(tokens))
    assert not torch.allclose(outcomes[0], model.logits(tokens), atol=1e-3)
    for other in outcomes[1:]:
        torch.testing.assert_close(other, outcomes[0], rtol=1e-4, atol=1e-4)
    with model.edit({Site("q", layer): torch.zeros_like}):
        pattern = model.capture(tokens, [Site("pattern", layer)])[Site("pattern", layer)]
    seen = pattern[:, :, 2, :3]
    assert torch.allclose(seen / seen.sum(-1, keepdim=True), torch.full((), 1 / 3))  # no preference without a query


def test_resid_mid_edits_reach_both_the_mlp_and_the_stream(model, tokens):
    site, layer = Site("resid_mid", 1), 1
    if model.anatomy.parallel:
        for action in (lambda: model.capture(tokens, [site]), lambda: model.sites("resid_mid")):
            with pytest.raises(UsageError, match="run in parallel"):
                action()
        return
    new = torch.randn(model.capture(tokens, [site])[site].shape, generator=torch.Generator().manual_seed(2))
    with model.edit({site: lambda value: new}):
        read = model.capture(tokens, [Site("mlp_in", layer), Site("mlp_out", layer), Site("resid_post", layer)])
    norm = model.anatomy.mlp_norm(layer) or torch.nn.Identity()
    torch.testing.assert_close(read[Site("mlp_in", layer)], norm(new), **CLOSE)
    torch.testing.assert_close(read[Site("resid_post", layer)], new + read[Site("mlp_out", layer)], **CLOSE)


def test_gradients_flow_through_every_edit(model, tokens):
    for site in [Site("embed"), *(site for site in all_sites(model) if site.layer == 1)]:
        strength = torch.ones((), requires_grad=True)
        with model.edit({site: lambda value, strength=strength: value * strength}):
            model.logits(tokens)[:, -1].pow(2).sum().backward()
        scaled = []
        for factor in (1 - 1e-2, 1 + 1e-2):
            with torch.no_grad(), model.edit({site: lambda value, factor=factor: value * factor}):
                scaled.append(model.logits(tokens)[:, -1].double().pow(2).sum())
        slope = (scaled[1] - scaled[0]) / 2e-2
        scale = slope.abs().clamp(min=1e-1)
        assert abs(strength.grad - slope) / scale < 0.05, (site, float(strength.grad), float(slope))


def padded(tokens, lengths, side):
    mask = torch.zeros_like(tokens.mask)
    ids = torch.full_like(tokens.ids, -1)  # ids at padding are nobody's business
    for row, length in enumerate(lengths):
        place = slice(0, length) if side == "right" else slice(tokens.ids.shape[1] - length, None)
        ids[row, place], mask[row, place] = tokens.ids[row, :length], True
    return Tokens(ids, mask)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model, tokens, side):
    lengths = [9, 4, 1]
    batch = padded(tokens, lengths, side)
    logits = model.logits(batch)
    assert torch.isfinite(logits).all()
    at = model.logits(batch, at=batch.last)
    sites = [site for kind in ("resid_post", "z") for site in model.sites(kind)]
    values = model.capture(batch, sites)
    for row, length in enumerate(lengths):
        alone = Tokens.full(tokens.ids[row : row + 1, :length])
        torch.testing.assert_close(logits[row][batch.mask[row]], model.logits(alone)[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(at[row], model.logits(alone)[0, -1], rtol=1e-4, atol=1e-4)
        for site, value in model.capture(alone, sites).items():
            torch.testing.assert_close(values[site][row][batch.mask[row]], value[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_patterns_ignore_padding(model, tokens, side):
    lengths = [9, 4, 1]
    batch = padded(tokens, lengths, side)
    pattern = model.capture(batch, [Site("pattern", 1)])[Site("pattern", 1)]
    for row, length in enumerate(lengths):
        alone = Tokens.full(tokens.ids[row : row + 1, :length])
        real = pattern[row][:, batch.mask[row]][:, :, batch.mask[row]]
        expected = model.capture(alone, [Site("pattern", 1)])[Site("pattern", 1)][0]
        torch.testing.assert_close(real, expected, rtol=1e-4, atol=1e-5)


def test_batches_change_nothing(model, tokens):
    together = model.logits(tokens)
    for row in range(len(tokens)):
        torch.testing.assert_close(model.logits(tokens[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-4)


def test_a_kernel_that_cannot_be_opened_is_used_but_not_read(tokens):
    AttentionInterface.register("sealed", ALL_ATTENTION_FUNCTIONS["sdpa"])
    AttentionMaskInterface.register("sealed", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model = random_model("llama", attention="sealed")
    torch.testing.assert_close(model.logits(tokens), random_model("llama").logits(tokens))
    with pytest.raises(UsageError, match="cannot be read under 'sealed' attention"):
        model.capture(tokens, [Site("pattern", 0)])


@pytest.mark.parametrize("name", list(CONFIGS))
def test_bfloat16(name):
    model = random_model(name, dtype=torch.bfloat16)
    tokens = random_tokens()
    assert model.dtype == torch.bfloat16
    plain = model.logits(tokens)
    with model.edit(dict.fromkeys(all_sites(model), lambda value: value.float())):  # edits in float32 are welcome
        assert torch.equal(model.logits(tokens), plain)
    for site, value in model.capture(tokens, all_sites(model)).items():
        # Norms compute in float32, and so do attention's scores in some families.
        inside = site.facts.norm_scale or site.kind in ("attn_normalized", "mlp_normalized", "scores")
        assert value.dtype == torch.bfloat16 or inside
    exact = random_hf(name)(input_ids=tokens.ids).logits
    assert (plain.float() - exact).abs().mean() < 0.2 * exact.abs().mean()
    site = Site("resid_post", 1)
    stream = model.capture(tokens, [site])[site]
    assert torch.equal(model.resume(site, stream, tokens), plain)
