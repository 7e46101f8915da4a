"""Frozen patterns and norms: the model is affine between MLPs, to the last digits of float64."""

import pytest
import torch
from tiny_families import CONFIGS, random_tokens, shared_model

from gossamer.errors import GossamerError
from gossamer.model import SITE_KINDS, Site


def without_mlps(model, tokens):
    """Edits that hold what the MLPs add at what it is on these tokens."""
    values = model.capture(tokens, model.sites("mlp_out"))
    return {site: (lambda value, held=held: held) for site, held in values.items()}


# OLMo's clipping of values is not affine.
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "olmo"])
def test_freezing_changes_nothing_and_makes_attention_affine(name):
    model, tokens = shared_model(name, dtype=torch.float64), random_tokens()
    site = Site("resid_pre", 1)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        plain, stream = model.logits(tokens), model.capture(tokens, [site])[site]
        one, two, three = (torch.randn(stream.shape, generator=draw).double() for _ in range(3))

        def end(x):
            with model.edit({site: lambda value: stream + x}):
                return model.capture(tokens, [Site("resid_post", 2)])[Site("resid_post", 2)]

        with model.freeze(tokens):
            assert torch.equal(model.logits(tokens), plain)
        with model.edit(without_mlps(model, tokens)), model.freeze(tokens):
            # Off the frozen point, where norms that compute in float32 whatever the model's type are used as they are.
            here, there = end(one + 2 * three) - end(one), 2 * (end(two + three) - end(two))
            at_the_point = end(torch.zeros_like(one))
            from_one = end(one) - (end(2 * one) - end(one))
    assert here.abs().max() > 0.1
    assert (here - there).abs().max() < 1e-10 * here.abs().max()
    torch.testing.assert_close(from_one, at_the_point, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "olmo2"])
def test_frozen_values_are_constants_for_gradients(name):
    """The gradient at the frozen point is the slope of the affine map, which no small step has to approach."""
    model, tokens = shared_model(name, dtype=torch.float64), random_tokens()
    site, end = Site("resid_pre", 0), Site("resid_post", 2)
    with torch.no_grad():
        stream = model.capture(tokens, [site])[site]
    step = torch.randn(stream.shape, generator=torch.Generator().manual_seed(1)).double()
    x = stream.clone().requires_grad_()
    with model.edit(without_mlps(model, tokens)), model.freeze(tokens):
        with model.edit({site: lambda value: x}):
            model.capture(tokens, [end])[end][:, -1].sum().backward()
        with torch.no_grad():
            moved = []
            for size in (2, 5):
                with model.edit({site: lambda value, size=size: stream + size * step}):
                    moved.append(model.capture(tokens, [end])[end][:, -1].sum())
    torch.testing.assert_close((x.grad * step).sum(), (moved[1] - moved[0]) / 3, rtol=1e-9, atol=1e-9)


def test_patterns_and_norms_apart():
    """Frozen patterns alone leave the norms free, and the reverse."""
    model, tokens = shared_model("llama", dtype=torch.float64), random_tokens()
    scale, pattern = Site("attn_norm_scale", 2), Site("pattern", 2)
    with torch.no_grad():
        before = model.capture(tokens, [scale, pattern])
        for facts in ({"patterns": False}, {"norms": False}):
            with model.freeze(tokens, **facts), model.edit({Site("resid_pre", 1): lambda value: value * 2 + 1}):
                after = model.capture(tokens, [scale, pattern])
            assert torch.equal(after[scale], before[scale]) == ("norms" not in facts)
            assert torch.equal(after[pattern], before[pattern]) == ("patterns" not in facts)


def test_other_shapes_are_refused_by_name():
    model, tokens = shared_model("llama"), random_tokens()
    with model.freeze(tokens), pytest.raises(GossamerError, match=r"attn_norm_scale\.0: expected.*shape"):
        model.logits(tokens[:2])


@pytest.mark.parametrize("name", list(CONFIGS))
def test_scales_and_normalized_values(name):
    """Against the formula, and edits of them against norms recomputed outside the model."""
    model, tokens = shared_model(name), random_tokens()
    kinds = [kind for kind in model.kinds if SITE_KINDS[kind].norm_scale or kind.endswith("normalized")]
    with torch.no_grad():
        sites = [site for kind in kinds for site in model.sites(kind)]
        values = model.capture(tokens, [*sites, *model.sites("resid_post"), *model.sites("mlp_in")])
        last = values[Site("resid_post", 2)]
        norm = model.anatomy.norm_of(model.anatomy.norm)
        centred = last - last.mean(-1, keepdim=True) if norm.centres else last
        expected = (centred.pow(2).mean(-1, keepdim=True) + norm.eps).rsqrt()
        torch.testing.assert_close(values[Site("final_norm_scale")], expected)
        with model.edit({Site("final_norm_scale"): lambda value: value * 3}):
            found = model.logits(tokens)
        shift = norm.output(torch.zeros_like(last), last.dtype)
        tripled = model.head(3 * (model.anatomy.norm(last) - shift) + shift)
        torch.testing.assert_close(found, tripled, rtol=1e-4, atol=1e-4)
        if "mlp_normalized" not in kinds:
            return
        site = Site("mlp_normalized", 1)
        with model.edit({site: torch.zeros_like}):
            constant = model.capture(tokens, [Site("mlp_in", 1)])[Site("mlp_in", 1)]
        bias = getattr(model.anatomy.mlp_norm(1), "bias", None)
        expected = torch.zeros(model.d_model) if bias is None else bias
    if not model.anatomy.shares_norm:
        torch.testing.assert_close(constant, expected.expand_as(constant))


def test_a_final_norm_is_edited_in_what_is_resumed(tokens):
    model = shared_model("llama")
    site, edits = Site("resid_post", 2), {Site("final_norm_scale"): lambda value: value * 2}
    stream = model.capture(tokens, [site])[site]
    with model.edit(edits):
        torch.testing.assert_close(model.resume(site, stream, tokens), model.logits(tokens))
        torch.testing.assert_close(model.resume(site, stream, tokens, at=tokens.last), model.logits(tokens)[:, -1])
    assert not torch.allclose(model.resume(site, stream, tokens), 2 * model.logits(tokens) + 1)
