"""Passes over the last positions only, with keys and values kept of the first: against passes over all of them."""

import pytest
import torch
from tiny_families import CONFIGS, random_tokens, shared_model

from gossamer.model import Site
from gossamer.model.past import Past
from gossamer.tokens import Tokens


def padded(length=9):
    """Rows of different lengths, padded on the right as the prompts of a task are."""
    tokens = random_tokens(length=length)
    lengths = torch.tensor([length, length - 2, length - 3])
    return Tokens(tokens.ids, torch.arange(length) < lengths.unsqueeze(1))


def shifted(x):
    return x + torch.linspace(-1, 1, x.shape[-1]).to(x)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("layer", [None, 0])
def test_later_positions_alone_equal_the_whole_pass(name, layer):
    """From the model's start, and from a layer's end; rows chosen and put in another order; longer than the windows."""
    model, rows, done = shared_model(name, dtype=torch.float64), torch.tensor([2, 0]), 4
    tokens, site = padded(), model.sites("resid_post")[-1]
    with torch.no_grad(), model.edit({Site("mlp_out", 1): shifted}):
        start = Site("resid_post", layer) if layer is not None else None
        stream = None if start is None else model.capture(tokens, [start])[start]
        past = Past()
        whole = model.capture(tokens, [site], start=start and (start, stream), past=past)[site]
        cut = past.first(rows, done)
        later = start and (start, stream[rows, done:])
        found = model.capture(tokens[rows], [site], start=later, past=cut)[site]
    assert past.ran == cut.ran == 9
    torch.testing.assert_close(whole, model_of(model, tokens, site), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0, : 6 - done], whole[2, done:6], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], whole[0, done:], rtol=1e-5, atol=1e-5)


def model_of(model, tokens, site):
    with torch.no_grad(), model.edit({Site("mlp_out", 1): shifted}):
        return model.capture(tokens, [site])[site]


def test_rows_of_several_parts_are_joined():
    model = shared_model("llama", dtype=torch.float64)
    tokens, site = padded(), model.sites("resid_post")[-1]
    parts = [Past(), Past()]
    with torch.no_grad():
        model.capture(Tokens(tokens.ids[:1], tokens.mask[:1]), [site], past=parts[0])
        model.capture(Tokens(tokens.ids[1:, :7], tokens.mask[1:, :7]), [site], past=parts[1])
        joined = Past.joined(parts)
        found = model.capture(tokens, [site], past=joined.first(torch.arange(3), 5))[site]
        whole = model.capture(tokens, [site])[site]
    assert [part.length for part in (*parts, joined)] == [9, 7, 9]
    torch.testing.assert_close(found[tokens.mask[:, 5:]], whole[:, 5:][tokens.mask[:, 5:]])
    assert repr(joined) == "Past(9 positions)"
