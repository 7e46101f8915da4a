"""One hop back: terms sum to the function, and are what the real model does when a term alone is taken away."""

import pytest
import torch
from random_dictionaries import pre_activations, random_dictionary
from tiny_families import CONFIGS, random_tokens, shared_model

from gossamer.attention import FrozenPass
from gossamer.attention.upstream import of_latents, upstream
from gossamer.errors import UsageError
from gossamer.model import Site

# Norms that compute in float32 whatever the model's type; the others hold to the last digits.
EXACT = ("gpt2", "gpt_neo", "gpt_neox parallel", "gpt_neox serial", "starcoder2", "stablelm parallel", "phi", "gptj")
# OLMo clips its values, which is no linear function of the stream.
LINEAR = [name for name in CONFIGS if name != "olmo"]


def weights(tokens, seed=3):
    return torch.randn(tokens.ids.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def traced(model, sites, *, outs=(), **facts):
    tokens = random_tokens()
    dictionaries = [random_dictionary(model, tokens, site, seed=number) for number, site in enumerate(sites)]
    dictionaries += [random_dictionary(model, tokens, site, site_out=out, **facts) for site, out in outs]
    return FrozenPass.of(model, dictionaries, tokens)


def summed(frozen, site, latent, weight):
    cotangent, bias = of_latents(frozen.codes_at(site), latent, weight)
    terms = [bias, *upstream(frozen, Site.of(site), cotangent)]
    return sum(one.values.sum() for one in terms), terms


@pytest.mark.parametrize("name", LINEAR)
def test_terms_sum_to_the_pre_activation_in_every_family(name):
    """Through attention latents, residual latents and layers without dictionaries."""
    model = shared_model(name, dtype=torch.float64)
    frozen = traced(model, ["z.0", "resid_post.1", "z.2"])
    weight = weights(frozen.tokens)
    for site in ("resid_post.1", "z.2"):
        dictionary = frozen.codes_at(site).dictionary
        expected = (pre_activations(dictionary, frozen.values[Site.of(site)])[..., 5] * weight).sum()
        found, terms = summed(frozen, site, 5, weight)
        kinds = {one.kind for one in terms}
        assert {"latent", "bias", "error"} <= kinds
        close = 1e-12 if name in EXACT else 1e-5
        torch.testing.assert_close(found, expected, rtol=close, atol=close)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox parallel", "gemma3", "olmo2", "cohere2"])
def test_through_transcoders_with_a_skip(name):
    model = shared_model(name, dtype=torch.float64)
    frozen = traced(model, ["attn_out.0"], outs=[("mlp_in.0", "mlp_out.0"), ("mlp_in.2", "mlp_out.2")], skip=True)
    weight = weights(frozen.tokens)
    dictionary = frozen.codes_at("mlp_in.2").dictionary
    expected = (pre_activations(dictionary, frozen.values[Site("mlp_in", 2)])[..., 5] * weight).sum()
    found, terms = summed(frozen, "mlp_in.2", 5, weight)
    assert {"latent", "skip", "attention", "mlp", "token"} <= {one.kind for one in terms}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # The linear path of the earlier transcoder goes back to what that one reads, and on from there.
    skip = next(one for one in terms if one.kind == "skip")
    assert skip.site == Site("mlp_in", 0)
    at_input = (skip.cotangent * frozen.values[Site("mlp_in", 0)]).sum()
    torch.testing.assert_close(at_input, skip.values.sum(), rtol=1e-9, atol=1e-9)
    further = sum(one.values.sum() for one in upstream(frozen, skip.site, skip.cotangent))
    torch.testing.assert_close(further, skip.values.sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_a_term_is_what_its_removal_changes(name):
    """An attention latent of layer 0 is taken away, everything else that is added is held: what the function loses.

    The model runs for it with frozen patterns and norms: none of the formulas under test takes part.
    """
    model = shared_model(name, dtype=torch.float64)
    frozen = traced(model, ["z.0", "z.2"])
    weight = weights(frozen.tokens)
    cotangent, _ = of_latents(frozen.codes_at("z.2"), 7, weight)
    terms = next(one for one in upstream(frozen, Site("z", 2), cotangent) if one.kind == "latent")
    entry = int(terms.values.sum(dim=1).abs().argmax())
    row, position = divmod(int(terms.tokens[entry]), frozen.tokens.ids.shape[1])
    codes = frozen.codes_at("z.0")
    activation = codes.latents.activations[entry]
    vector = activation * codes.dictionary.W_dec[terms.latents[entry]]

    def removed(value):
        value = value.clone()
        value[row, position] -= vector
        return value

    held = {
        site: (lambda value, site=site: frozen.values[site])
        for site in (Site("mlp_out", 0), Site("attn_out", 1), Site("mlp_out", 1))
    }
    with torch.no_grad(), model.freeze(frozen.tokens), model.edit({**held, Site("z", 0): removed}):
        after = model.capture(frozen.tokens, ["z.2"])["z.2"].double()
    lost = ((frozen.values[Site("z", 2)] - after) * cotangent).sum()
    torch.testing.assert_close(terms.values[entry].sum(), lost, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_heads_are_told_apart(name):
    """With the pattern of one head set to nothing, the terms that this head moved are what is lost."""
    model = shared_model(name, dtype=torch.float64)
    frozen = traced(model, ["z.2"])
    cotangent, _ = of_latents(frozen.codes_at("z.2"), 7, weights(frozen.tokens))

    def without_head(pattern):
        pattern = pattern.clone()
        pattern[:, 1] = 0
        return pattern

    with torch.no_grad(), model.edit({Site("pattern", 2): without_head}):
        after = model.capture(frozen.tokens, ["z.2"])["z.2"].double()
    lost = ((frozen.values[Site("z", 2)] - after) * cotangent).sum()
    by_head = sum(one.values.sum(dim=0) for one in upstream(frozen, Site("z", 2), cotangent))
    torch.testing.assert_close(by_head[1], lost, rtol=1e-5, atol=1e-6)


def test_gradients_of_the_frozen_model_are_the_same_numbers():
    """Autograd, with what later layers add held: the gradient at a latent's direction is its term for one unit."""
    model = shared_model("gemma3", dtype=torch.float64)
    frozen = traced(model, ["z.0", "resid_post.1"])
    weight = weights(frozen.tokens)
    cotangent, _ = of_latents(frozen.codes_at("resid_post.1"), 3, weight)
    terms = next(one for one in upstream(frozen, Site("resid_post", 1), cotangent) if one.kind == "latent")
    leaf = frozen.values[Site("z", 0)].clone().requires_grad_()
    held = {
        site: (lambda value, site=site: frozen.values[site])
        for site in (Site("mlp_out", 0), Site("attn_out", 1), Site("mlp_out", 1))
    }
    with model.freeze(frozen.tokens), model.edit({Site("z", 0): lambda value: leaf, **held}):
        after = model.capture(frozen.tokens, ["resid_post.1"])["resid_post.1"]
    gradient = torch.autograd.grad((after.double() * cotangent).sum(), leaf)[0]
    rows = frozen.codes_at("z.0").dictionary.W_dec[terms.latents]
    expected = (gradient.flatten(0, 1)[terms.tokens] * rows).sum(dim=1)
    torch.testing.assert_close(terms.per_unit, expected, rtol=1e-5, atol=1e-7)


def test_functions_of_other_values_are_refused():
    frozen = traced(shared_model("gpt2", dtype=torch.float64), ["z.0"])
    with pytest.raises(UsageError, match=r"mlp_normalized\.1: a function of the stream, z, attn_out"):
        list(upstream(frozen, Site("mlp_normalized", 1), frozen.values[Site("embed")]))
