"""Running only the layers after a site."""

import pytest
import torch
from tiny_families import random_model, random_tokens

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.tokens import Tokens


def starts(model):
    return [*model.sites("resid_pre"), *model.sites("resid_post")]


def left_padded():
    tokens = random_tokens()
    mask = tokens.mask.clone()
    mask[1, :4] = False
    return Tokens(tokens.ids, mask)


@pytest.mark.parametrize("batch", [random_tokens, left_padded])
def test_resuming_gives_the_full_logits(model, batch):
    tokens = batch()
    full = model.logits(tokens)
    values = model.capture(tokens, starts(model))
    for site, stream in values.items():
        assert torch.equal(model.resume(site, stream, tokens), full), site
        at = tokens.last
        torch.testing.assert_close(model.resume(site, stream, tokens, at=at), full[torch.arange(3), at])


def test_earlier_layers_do_not_run(model, tokens):
    values = model.capture(tokens, starts(model))
    ran = []
    counters = [
        part.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, layer in enumerate(model.anatomy.layers)
        for part in (layer, layer.mlp)
    ]
    try:
        for site, stream in values.items():
            ran.clear()
            model.resume(site, stream, tokens)
            first = site.layer + (site.kind == "resid_post")
            assert ran == [i for i in range(first, model.n_layers) for _ in range(2)]
    finally:
        for counter in counters:
            counter.remove()


def test_later_edits_apply_and_earlier_ones_do_not(model, tokens):
    site = Site("resid_post", 0)
    stream = model.capture(tokens, [site])[site]
    later = {Site("attn_out", 1): torch.zeros_like, Site("pattern", 2): lambda value: value * 0.5}
    earlier = {Site("embed"): torch.zeros_like, Site("z", 0): torch.zeros_like, site: torch.zeros_like}
    with model.edit(later):
        expected = model.logits(tokens)
        with model.edit(earlier):
            assert torch.equal(model.resume(site, stream, tokens), expected)
    with model.edit(earlier):
        assert torch.equal(model.resume(site, stream, tokens), model.resume(site, stream, tokens))
    with model.edit({Site("resid_pre", 1): torch.zeros_like}):
        torch.testing.assert_close(
            model.resume(site, stream, tokens), model.resume(site, torch.zeros_like(stream), tokens)
        )


def test_gradients_reach_the_stream(model, tokens):
    site = Site("resid_pre", 1)
    stream = model.capture(tokens, [site])[site].detach().requires_grad_()
    model.resume(site, stream, tokens, at=tokens.last)[:, 5].sum().backward()
    found = stream.grad
    held = {}

    def hold(value):
        held["stream"] = value.detach().requires_grad_()
        return held["stream"]

    with model.edit({site: hold}):
        model.logits(tokens)[:, -1, 5].sum().backward()
    torch.testing.assert_close(found, held["stream"].grad, rtol=1e-4, atol=1e-5)
    assert found.abs().max() > 0


def test_the_head_runs_only_where_asked(model, tokens):
    sizes = []
    counter = model.anatomy.head.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape)))
    try:
        at = torch.tensor([2, 8, 0])
        found = model.logits(tokens, at=at)
        assert sizes == [(3, model.d_model)]
    finally:
        counter.remove()
    torch.testing.assert_close(found, model.logits(tokens)[torch.arange(3), at], rtol=1e-5, atol=1e-5)


def test_unembed_takes_any_leading_shape(model, tokens):
    site = Site("resid_post", 1)
    stream = model.capture(tokens, [site])[site]
    together = model.unembed(stream)
    assert together.shape == (*tokens.ids.shape, model.d_vocab)
    torch.testing.assert_close(model.unembed(stream[0, 2]), together[0, 2], rtol=1e-5, atol=1e-5)


def test_what_cannot_be_resumed_is_refused(tokens):
    model = random_model("gpt2")
    stream = torch.zeros(3, 9, 32)
    for site in (Site("z", 1), Site("embed"), Site("resid_mid", 0)):
        with pytest.raises(UsageError, match="expected resid_pre or resid_post to resume from"):
            model.resume(site, stream, tokens)
    with pytest.raises(UsageError, match=r"expected a stream of shape \(3, 9, 32\), found \(3, 8, 32\)"):
        model.resume(Site("resid_pre", 1), stream[:, :8], tokens)
    with pytest.raises(UsageError, match="one position a row"):
        model.logits(tokens, at=torch.tensor([1, 2]))
