"""Latents of two dictionaries, matched: what was permuted is found again, and chance is measured beside."""

import pytest
import torch

from gossamer.dictionary.config import DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.features.matching import match_latents

N, D = 96, 48


def made(site="resid_post.1", seed=0, d=D):
    config = DictionaryConfig("relu", d, N, site)
    drawn = torch.Generator().manual_seed(seed)
    one = Dictionary(config)
    for name, parameter in one.named_parameters():
        parameter.data = (
            torch.randn(parameter.shape, generator=drawn) if name.startswith("W") else parameter.data.zero_()
        )
    return one.requires_grad_(False)


def test_latents_in_another_order_and_length_are_found():
    one, other = made(), made()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    other.W_dec.data = 3 * one.W_dec[order]
    other.W_enc.data = one.W_enc[:, order]
    found = match_latents(one, other)
    assert torch.equal(order[found.other], torch.arange(N))
    assert found.shared == 1
    torch.testing.assert_close(found.decoder, torch.ones(N))
    assert found.control.max() < 0.9
    assert found.by_chance < 0.1


def test_what_is_read_otherwise_is_not_the_same():
    one, other = made(), made()
    other.W_enc.data = -one.W_enc
    found = match_latents(one, other)
    torch.testing.assert_close(found.decoder, torch.ones(N))
    assert found.shared == 0


def test_two_latents_may_have_the_same_match_and_one_of_them_is_mutual():
    one, other = made(), made()
    one.W_dec.data[1] = one.W_dec[0] + 0.1 * one.W_dec[1]
    found = match_latents(one, other)
    assert found.other[:2].tolist() == [0, 0]
    assert found.mutual[:2].tolist() == [True, False]


def test_against_float64():
    one, other = made(), made(seed=3)
    found = match_latents(one, other)
    exact = (
        torch.nn.functional.normalize(one.W_dec.double(), dim=1)
        @ torch.nn.functional.normalize(other.W_dec.double(), dim=1).T
    )
    torch.testing.assert_close(found.decoder.double(), exact.max(dim=1).values, atol=1e-6, rtol=0)
    assert torch.equal(found.other, exact.argmax(dim=1))
    # Both are drawn at random: the control tells that nothing was found.
    assert found.decoder.mean().item() == pytest.approx(found.control.mean().item(), abs=0.03)


def test_spaces_that_have_nothing_to_do_with_each_other_are_refused():
    with pytest.raises(UsageError, match="same space"):
        match_latents(made("z.1"), made("z.2"))
    with pytest.raises(UsageError, match="width"):
        match_latents(made(), made(d=32))
    assert len(match_latents(made("resid_post.1"), made("resid_mid.3", seed=2)).other) == N
