"""Edits: order, scope, errors, passes inside passes, and that nothing stays behind."""

import threading

import pytest
import torch
from tiny_families import random_hf, random_model, random_tokens
from torch import nn

from gossamer.errors import GossamerError, UsageError
from gossamer.finite import require_finite
from gossamer.model import LanguageModel, Site
from gossamer.model.editing import current

POST = Site("resid_post", 1)


def hooks_on(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


def state_of(model):
    layers = getattr(model.anatomy.base, model.anatomy.layers_name)
    patched = [name for module in model.hf.modules() for name in ("_attn", "forward") if name in module.__dict__]
    return (
        hooks_on(model),
        layers is model.anatomy.layers,
        model.anatomy.config._attn_implementation,
        patched,
        current(),
    )


@pytest.fixture(scope="module", params=["gpt2", "gpt_neo", "llama"])
def model(request):
    return random_model(request.param)


def test_edits_apply_inside_the_block_only(model, tokens):
    plain = model.logits(tokens)
    with model.edit({POST: torch.zeros_like}):
        assert not torch.equal(model.logits(tokens), plain)
        assert model.capture(tokens, [POST])[POST].abs().max() == 0
    assert torch.equal(model.logits(tokens), plain)


def test_edits_nest_outer_first(model, tokens):
    plain = model.capture(tokens, [POST])[POST]
    with model.edit({POST: lambda value: value + 1}), model.edit({POST: lambda value: value * 2}):
        torch.testing.assert_close(model.capture(tokens, [POST])[POST], (plain + 1) * 2)


def test_the_same_edits_can_be_nested_and_left(model, tokens):
    edits = {POST: lambda value: value + 1}
    plain = model.capture(tokens, [POST])[POST]
    with model.edit(edits):
        with model.edit(edits):
            torch.testing.assert_close(model.capture(tokens, [POST])[POST], plain + 2)
        torch.testing.assert_close(model.capture(tokens, [POST])[POST], plain + 1)


@pytest.mark.parametrize(
    "kind", ["embed", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_in", "z", "q", "pattern"]
)
def test_a_wrong_shape_names_the_site(model, tokens, kind):
    site = Site(kind, None if kind == "embed" else 1)
    before = state_of(model)
    with (
        model.edit({site: lambda value: value[:, :-1]}),
        pytest.raises(GossamerError, match=f"{site}: expected.*shape"),
    ):
        model.logits(tokens)
    assert state_of(model) == before


def test_an_edit_that_returns_nothing_names_the_site(model, tokens):
    with model.edit({POST: lambda value: None}), pytest.raises(GossamerError, match=r"resid_post\.1.*found NoneType"):
        model.logits(tokens)


def test_a_nan_can_be_traced_to_its_site(model, tokens):
    edits = {
        Site("mlp_out", 0): lambda value: value / 0,
        POST: lambda value: require_finite(value, "the stream at resid_post.1"),
    }
    with model.edit(edits), pytest.raises(GossamerError, match=r"resid_post\.1"):
        model.logits(tokens)


def test_nothing_stays_behind(model, tokens):
    before = state_of(model)
    sites = [site for kind in model.kinds for site in model.sites(kind)]

    def broken(value):
        raise ZeroDivisionError

    with model.edit(dict.fromkeys(sites, torch.clone)):
        opened = state_of(model)  # two hooks refuse calls of the transformers model itself, nothing else
        assert opened == (before[0] + 2, *before[1:])
        model.logits(tokens)
        assert state_of(model) == opened
        model.capture(tokens, sites)
        model.resume(Site("resid_post", 0), torch.zeros(3, 9, 32), tokens)
    with model.edit({Site("pattern", 1): broken}), pytest.raises(ZeroDivisionError):
        model.resume(Site("resid_post", 0), torch.zeros(3, 9, 32), tokens)
    assert state_of(model) == before


def test_capture_ends_at_the_last_site(model, tokens):
    ran = []
    counters = [
        layer.register_forward_pre_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(model.anatomy.layers)
    ]
    counters.append(model.anatomy.head.register_forward_pre_hook(lambda *_: ran.append("head")))
    try:
        model.capture(tokens, [POST, Site("resid_pre", 0)])
        assert ran == [0, 1]
        ran.clear()
        model.capture(tokens, [Site("resid_post", model.n_layers - 1)])
        assert ran == [0, 1, 2]
    finally:
        for counter in counters:
            counter.remove()


def test_capture_keeps_order_and_gradients(model, tokens):
    sites = [POST, Site("embed"), Site("pattern", 0)]
    values = model.capture(tokens, sites)
    assert list(values) == sites
    assert values[POST].requires_grad
    with torch.no_grad():
        assert not model.capture(tokens, [POST])[POST].requires_grad


def test_an_edit_may_run_the_model(model, tokens):
    """The inner pass sees no edits, and the outer one goes on as if it had not been there."""
    other = random_tokens(seed=5)
    sites = [POST, Site("pattern", 1), Site("resid_post", 0)]
    expected = model.capture(other, sites)
    seen = []

    def swap(site):
        def edit(value):
            seen.append(model.capture(other, sites))
            model.resume(Site("resid_pre", 1), expected[Site("resid_post", 0)], other)
            return seen[-1][site]

        return edit

    start = model.capture(tokens, [Site("resid_post", 0)])[Site("resid_post", 0)]
    edits = {Site("pattern", 1): swap(Site("pattern", 1)), POST: swap(POST)}
    with model.edit(edits):
        swapped, resumed = model.logits(tokens), model.resume(Site("resid_post", 0), start, tokens)
    assert len(seen) == 4
    for values in seen:
        assert all(torch.equal(values[site], expected[site]) for site in sites)
    torch.testing.assert_close(swapped, model.resume(POST, expected[POST], tokens))
    torch.testing.assert_close(resumed, swapped)


def test_sites_that_do_not_exist_are_refused(model, tokens):
    for action in (
        lambda: model.capture(tokens, [Site("resid_post", 3)]),
        lambda: model.edit({Site("z", 3): torch.clone}).__enter__(),
        lambda: model.resume(Site("resid_pre", 3), torch.zeros(3, 9, 32), tokens),
        lambda: model.width(Site("z", 17)),
    ):
        with pytest.raises(UsageError, match="the model has 3 layers, 0 to 2"):
            action()
    with pytest.raises(UsageError, match="at least one"):
        model.capture(tokens, [])
    with pytest.raises(UsageError, match="no fixed width"):
        model.width(Site("pattern", 0))


def test_threads_take_turns_and_have_their_own_edits(model, tokens):
    stream = model.capture(tokens, [POST])[POST].detach()

    def outcome(factor):
        with model.edit({Site("mlp_out", 2): lambda value: value * factor, Site("pattern", 1): torch.clone}):
            logits, resumed = model.logits(tokens), model.resume(POST, stream, tokens)
        return logits if torch.equal(logits, resumed) else None

    expected = [outcome(factor) for factor in range(4)]
    wrong = []

    def work(factor):
        for _ in range(4):
            found = outcome(factor)
            if found is None or not torch.equal(found, expected[factor]):
                wrong.append(factor)

    threads = [threading.Thread(target=work, args=(factor,)) for factor in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_training_mode_and_gradients_are_left_as_found(tokens):
    """A fresh transformers model is in training mode with dropout: passes run without it, and put the mode back."""
    hf = random_hf("gpt2").train()
    hf.transformer.h[0].eval()
    hf.transformer.wte.weight.requires_grad_(False)
    modes = [module.training for module in hf.modules()]
    wanted = [parameter.requires_grad for parameter in hf.parameters()]
    model = LanguageModel.load(hf)
    assert torch.equal(model.logits(tokens), model.logits(tokens))
    assert [module.training for module in hf.modules()] == modes
    assert [parameter.requires_grad for parameter in hf.parameters()] == wanted
    assert all(parameter.grad is None for parameter in hf.parameters())


def test_weights_are_never_copied(tokens):
    hf = random_hf("llama")
    places = [parameter.data_ptr() for parameter in hf.parameters()]
    model = LanguageModel.load(hf)
    with model.edit({POST: torch.clone}):
        model.resume(Site("resid_post", 0), torch.zeros(3, 9, 32), tokens)
    assert model.hf is hf
    assert [parameter.data_ptr() for parameter in hf.parameters()] == places
    assert isinstance(model.anatomy.layers, nn.ModuleList)
    rows = model.unembedding_rows(torch.tensor([4, 2]))
    assert torch.equal(rows, hf.lm_head.weight[[4, 2]])


def test_sites_may_be_names(model, tokens):
    read = model.capture(tokens, ["resid_post.1", "blocks.0.hook_resid_post"])
    assert list(read) == [POST, Site("resid_post", 0)]
    assert read["resid_post.1"] is read[POST]
    stream, plain = read["resid_post.0"], model.logits(tokens)
    later = model.capture(tokens, ["resid_post.1"], start=("resid_post.0", stream))["resid_post.1"]
    torch.testing.assert_close(later, read[POST])
    torch.testing.assert_close(model.resume("resid_post.0", stream, tokens), plain)
    assert model.width("resid_post.0") == model.d_model
    with model.edit({"resid_post.1": torch.zeros_like}):
        assert model.capture(tokens, [POST])[POST].abs().max() == 0
    with (
        pytest.raises(UsageError, match="two names of one site"),
        model.edit({"resid_post.1": torch.zeros_like, "blocks.1.hook_resid_post": torch.zeros_like}),
    ):
        pass
