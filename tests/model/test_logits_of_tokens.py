"""Logits of a few tokens alone: from two rows of the unembedding, in float32, of every family."""

import pytest
import torch
from tiny_families import CONFIGS, VOCAB, random_hf, random_model, random_tokens, shared_model

from gossamer.errors import UsageError
from gossamer.model import LanguageModel, Site


@pytest.mark.parametrize("name", list(CONFIGS))
def test_they_are_those_of_all_logits(name):
    """With caps, multipliers, divisors and biases of the head; for all rows alike or for each its own."""
    model, tokens = shared_model(name), random_tokens()
    full, at = model.logits(tokens), torch.tensor([2, 8, 0])
    own = torch.tensor([[5, 7], [0, 60], [3, 3]])
    rows = torch.arange(3)
    close = {"rtol": 1e-5, "atol": 2e-5}
    torch.testing.assert_close(model.logits(tokens, at=at, ids=own), full[rows[:, None], at[:, None], own], **close)
    torch.testing.assert_close(model.logits(tokens, ids=torch.tensor([4, 9])), full[..., [4, 9]], **close)
    each = torch.stack([full[row][:, own[row]] for row in range(3)])
    torch.testing.assert_close(model.logits(tokens, ids=own), each, **close)
    for site in (Site("resid_post", 1), Site("resid_post", 2)):
        stream = model.capture(tokens, [site])[site]
        torch.testing.assert_close(model.resume(site, stream, tokens, at=at, ids=own), each[rows, at], **close)


def test_the_others_never_exist():
    model, tokens, made = shared_model("llama"), random_tokens(), []
    counter = model.anatomy.head.register_forward_pre_hook(lambda *_: made.append(1))
    try:
        model.logits(tokens, at=tokens.last, ids=torch.tensor([1, 2]))
    finally:
        counter.remove()
    assert made == []


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "cohere2", "granite"])
def test_differences_in_half_precision(name):
    """In bfloat16 logits come in steps; the difference of two tokens keeps what float32 keeps of the same stream."""
    model, tokens = shared_model(name, dtype=torch.bfloat16), random_tokens(batch=16)
    ids = torch.stack([torch.arange(16) + 3, torch.arange(16) + 30], dim=1)
    found = model.logits(tokens, at=tokens.last, ids=ids)
    assert found.dtype == torch.float32
    site = Site("resid_post", 2)
    hidden = model.anatomy.norm(model.capture(tokens, [site])[site][:, -1])
    exact = random_model(name, dtype=torch.bfloat16).anatomy.head.double()(hidden.double())
    exact = exact * model.anatomy.logit_multiplier
    cap = model.anatomy.softcap
    exact = exact if cap is None else (exact / cap).tanh() * cap
    expected = exact.gather(1, ids)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    rounded = model.logits(tokens, at=tokens.last).gather(1, ids)
    assert (rounded.double() - expected).abs().max() > 100 * (found.double() - expected).abs().max()


def test_gradients_and_float64():
    model, tokens = shared_model("llama", dtype=torch.float64), random_tokens()
    site = Site("resid_post", 1)
    stream = model.capture(tokens, [site])[site].detach().requires_grad_()
    found = model.resume(site, stream, tokens, at=tokens.last, ids=torch.tensor([4, 9]))
    assert found.dtype == torch.float64
    (found[:, 0] - found[:, 1]).sum().backward()
    grad, stream.grad = stream.grad, None
    full = model.resume(site, stream, tokens, at=tokens.last)
    (full[:, 4] - full[:, 9]).sum().backward()
    torch.testing.assert_close(grad, stream.grad, rtol=1e-9, atol=1e-9)


def test_shapes_that_do_not_fit_are_refused():
    model, tokens = LanguageModel.load(random_hf("gpt2")), random_tokens()
    for ids in (torch.tensor(3), torch.zeros(2, 1, dtype=torch.long), torch.zeros(3, 1, 1, dtype=torch.long)):
        with pytest.raises(UsageError, match=r"ids: expected shape \(n,\) or \(3, n\)"):
            model.logits(tokens, ids=ids)
    assert model.d_vocab == VOCAB
