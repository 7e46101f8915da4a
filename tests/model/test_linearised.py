"""Relevance rules: what passes forward stays, and what passes back is what a network without biases must give back."""

import pytest
import torch
from tiny_families import random_tokens, shared_model

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.model.linearised import linear_mlps


def without_biases(name):
    """A model of which every bias is zero; gated and plain MLPs, norms with and without centring."""
    model = shared_model(name, dtype=torch.float64)
    found = {key: value for key, value in model.hf.named_parameters() if key.endswith("bias")}
    return model, found


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "gpt_neox parallel"])
def test_a_logit_is_the_input_times_its_gradient(name):
    """With patterns and norm scales held the network without biases is linear: Euler's identity of degree one."""
    model, biases = without_biases(name)
    kept = {key: value.detach().clone() for key, value in biases.items()}
    tokens, start = random_tokens(), Site("resid_pre", 0)
    try:
        with torch.no_grad():
            for value in biases.values():
                value.zero_()
            stream = model.capture(tokens, [start])[start]
            plain = model.resume(start, stream, tokens)
        leaf = stream.clone().requires_grad_()
        with linear_mlps(model), model.freeze(tokens):
            logits = model.resume(start, leaf, tokens)
        torch.testing.assert_close(logits, plain)
        logit = logits[0, -1, 3]
        (gradient,) = torch.autograd.grad(logit, leaf)
        assert (leaf * gradient).sum().item() == pytest.approx(logit.item(), rel=1e-6)
    finally:
        with torch.no_grad():
            for key, value in biases.items():
                value.copy_(kept[key])


def test_nothing_stays_behind():
    model, tokens = shared_model("llama", dtype=torch.float64), random_tokens()
    start = Site("resid_pre", 0)
    with torch.no_grad():
        stream = model.capture(tokens, [start])[start]

    def gradient():
        leaf = stream.clone().requires_grad_()
        return torch.autograd.grad(model.resume(start, leaf, tokens)[0, -1, 3], leaf)[0]

    before = gradient()
    with linear_mlps(model):
        inside = gradient()
    assert torch.equal(gradient(), before)
    assert not torch.allclose(inside, before)


def test_a_mixture_of_experts_is_refused():
    model = shared_model("mixtral")
    with pytest.raises(UsageError, match="expected in layer 0, found a mixture of experts"), linear_mlps(model):
        pass
