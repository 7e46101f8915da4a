"""An edit or a capture that does not run is an error, or runs: compiled modules, and the model called by itself."""

import threading

import pytest
import torch
from tiny_families import random_hf, random_tokens

from gossamer.errors import GossamerError, UsageError
from gossamer.model import SITE_KINDS, LanguageModel, Site

BACKEND = "eager"  # dynamo traces and guards as with any back end; only the code it makes is faster to come by


def compiled_layers(hf):
    for layer in hf.model.layers:
        layer.compile(backend=BACKEND)
    return hf


def compiled_base(hf):
    hf.model.compile(backend=BACKEND)
    return hf


def wrapped_base(hf):
    hf.model = torch.compile(hf.model, backend=BACKEND)
    return hf


def wrapped_layers(hf):
    for index, layer in enumerate(hf.model.layers):
        hf.model.layers[index] = torch.compile(layer, backend=BACKEND)
    return hf


def wrapped_part(hf):
    hf.model.layers[1].mlp = torch.compile(hf.model.layers[1].mlp, backend=BACKEND)
    return hf


def compiled_whole(hf):
    hf.compile(backend=BACKEND)
    return hf


def wrapped_whole(hf):
    return torch.compile(hf, backend=BACKEND)


WAYS = (compiled_layers, compiled_base, wrapped_base, wrapped_layers, wrapped_part, compiled_whole, wrapped_whole)


@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loaded_first", [False, True])
def test_edits_and_captures_of_compiled_models(way, loaded_first):
    """Every site of a layer, with code compiled before any hook was there, gives what the uncompiled model gives."""
    tokens, plain = random_tokens(), LanguageModel.load(random_hf("llama"))
    hf = random_hf("llama")
    model = LanguageModel.load(hf) if loaded_first and way not in (wrapped_layers, wrapped_part) else None
    compiled = way(hf)
    with torch.no_grad():
        expected = compiled(input_ids=tokens.ids, use_cache=False).logits
    model = model or LanguageModel.load(compiled)
    sites = [Site(kind, 1) for kind in model.kinds if SITE_KINDS[kind].per_layer]
    assert torch.equal(model.logits(tokens), plain.logits(tokens))
    for site, value in model.capture(tokens, sites).items():
        assert torch.equal(value, plain.capture(tokens, [site])[site]), site
    for site in sites:
        with model.edit({site: torch.zeros_like}), plain.edit({site: torch.zeros_like}):
            assert torch.equal(model.logits(tokens), plain.logits(tokens)), site
    with torch.no_grad():  # and it is as compiled as it was
        torch.testing.assert_close(compiled(input_ids=tokens.ids, use_cache=False).logits, expected)
    assert model.hf._compiled_call_impl is None or way is compiled_whole


def test_modules_replaced_after_loading_are_an_error():
    """Hooks sit where the model was when it was loaded: what no longer runs there is said, not skipped."""
    tokens, hf = random_tokens(), random_hf("llama")
    model = LanguageModel.load(hf)
    attention = hf.model.layers[1].self_attn
    compiled = torch.compile(attention, backend=BACKEND)
    hf.model.layers[1].self_attn = compiled
    with torch.no_grad():
        hf(input_ids=tokens.ids, use_cache=False)
    sites = [Site("z", 1), Site("resid_post", 0), Site("resid_post", 2)]
    match = r"z\.1 is never reached.*Llama model.*load the model again"
    with torch.no_grad():
        with pytest.raises(GossamerError, match=match):
            model.capture(tokens, sites)
        with model.edit({sites[0]: torch.zeros_like}):
            with pytest.raises(GossamerError, match=match):
                model.logits(tokens)
            with pytest.raises(GossamerError, match=match):
                model.capture(tokens, [sites[2]])
            model.capture(tokens, [sites[1]])  # the pass ends before the edit
        assert LanguageModel.load(hf).capture(tokens, sites)


def refusal(call):
    try:
        return call()
    except UsageError as error:
        return error


@pytest.mark.parametrize("way", [lambda hf: hf, compiled_whole, compiled_base, wrapped_base])
def test_the_model_itself_is_refused_while_edits_are_open(way):
    tokens, hf = random_tokens(), way(random_hf("llama"))
    with torch.no_grad():
        plain = hf(input_ids=tokens.ids, use_cache=False).logits
    model = LanguageModel.load(hf)
    edits = {Site("resid_post", 1): torch.zeros_like}
    calls = (
        lambda: model.hf(input_ids=tokens.ids, use_cache=False),
        lambda: model.hf.forward(input_ids=tokens.ids, use_cache=False),
        lambda: model.hf.model(input_ids=tokens.ids, use_cache=False),
        lambda: model.hf.generate(tokens.ids, max_new_tokens=2),
    )
    refusals = []
    with torch.no_grad(), model.edit(edits), model.edit({Site("z", 0): torch.clone}):
        for call in calls:
            with pytest.raises(UsageError, match="called by itself while edits are open"):
                call()
        thread = threading.Thread(target=lambda: refusals.append(refusal(calls[0])))
        thread.start()
        thread.join()
        assert isinstance(refusals[0], UsageError)
        model.logits(tokens)
    with torch.no_grad():
        torch.testing.assert_close(hf(input_ids=tokens.ids, use_cache=False).logits, plain)


def test_an_edit_that_calls_the_model_itself_is_refused():
    tokens, model = random_tokens(), LanguageModel.load(random_hf("llama"))
    with (
        model.edit(
            {
                Site("resid_post", 1): lambda value: (
                    model.hf.model(input_ids=tokens.ids, use_cache=False).last_hidden_state
                )
            }
        ),
        pytest.raises(UsageError, match="called by itself"),
    ):
        model.logits(tokens)
