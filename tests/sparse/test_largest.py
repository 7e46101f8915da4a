"""The largest pre-activations are the largest, however they are found."""

from dataclasses import replace

import pytest
import torch
from encoders import CASES, LATENTS, TOKENS, case

from gossamer.errors import NotFiniteError
from gossamer.sparse import largest
from gossamer.sparse.backend import has_sparse_products
from gossamer.sparse.screen import Encoder, Screen

pytestmark = pytest.mark.skipif(
    not has_sparse_products(torch.device("cpu")), reason="torch without MKL has no sparse products"
)
K = 5


def close_calls():
    """Latents in pairs that differ by less than bfloat16 can tell."""
    x, W_enc, b_enc = case()
    W_enc[:, 1::2] = W_enc[:, ::2] * 1.0005
    b_enc[1::2] = b_enc[::2]
    return x, W_enc, b_enc


INPUTS = [lambda settings=settings: case(**settings) for settings in CASES] + [close_calls]


def _mask(found):
    mask = torch.zeros(len(found.starts) - 1, found.n_latents, dtype=torch.bool)
    mask[found.tokens, found.latents] = True
    return mask


def _assert_found(found, expected, pre):
    assert torch.equal(_mask(found), expected)
    torch.testing.assert_close(found.activations, pre[expected].float(), rtol=1e-5, atol=1e-4)


def _screen(x, W_enc, b_enc):
    return Screen(x, Encoder(W_enc, b_enc))


def _exact(x, W_enc, b_enc):
    return x.double() @ W_enc.double() + b_enc.double()


@pytest.mark.parametrize("make", INPUTS)
def test_every_token_gets_its_largest(way, make):
    tensors = make()
    pre = _exact(*tensors)
    ranked = pre.sort(dim=1, descending=True).values
    expected = (pre >= ranked[:, K - 1 : K]) & (pre > 0)
    _assert_found(largest.of_tokens(_screen(*tensors), K), expected, pre)


@pytest.mark.parametrize("floor", [0.0, 0.5, 1e6])
@pytest.mark.parametrize("make", INPUTS)
def test_the_batch_gets_its_largest_whatever_the_guess(way, make, floor):
    tensors = make()
    pre = _exact(*tensors)
    smallest = pre.reshape(-1).sort(descending=True).values[K * TOKENS - 1].clamp(min=0)
    found, kept = largest.of_batch(_screen(*tensors), K, floor)
    _assert_found(found, (pre >= smallest) & (pre > 0), pre)
    assert kept == pytest.approx(float(pre[(pre >= smallest) & (pre > 0)].min()), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_only_positive_ones_where_there_are_too_few(way, shift):
    x, W_enc, b_enc = case()
    b_enc -= shift
    pre = _exact(x, W_enc, b_enc)
    assert 0 < (pre > 0).sum() < LATENTS // 2 * TOKENS
    found = largest.of_tokens(Screen(x, Encoder(W_enc, b_enc)), LATENTS // 2)
    _assert_found(found, pre > 0, pre)
    found, smallest = largest.of_batch(Screen(x, Encoder(W_enc, b_enc)), LATENTS // 2, 0.1)
    _assert_found(found, pre > 0, pre)
    assert smallest == pytest.approx(float(pre[pre > 0].min()), rel=1e-3)


def test_nothing_positive_is_no_active_latent(way):
    x, W_enc, b_enc = case()
    b_enc -= 1000
    assert len(largest.of_tokens(Screen(x, Encoder(W_enc, b_enc)), 3).latents) == 0
    found, smallest = largest.of_batch(Screen(x, Encoder(W_enc, b_enc)), 3)
    assert len(found.activations) == len(found.latents) == 0
    assert smallest == 0


def test_equal_values_do_not_give_a_token_more_than_k(way):
    x, W_enc, b_enc = torch.ones(2, 3), torch.ones(3, 8), torch.zeros(8)
    found = largest.of_tokens(Screen(x, Encoder(W_enc, b_enc)), 3)
    assert found.counts.tolist() == [3, 3]


def test_with_ties_a_token_gets_whatever_is_nearly_as_large(way):
    tensors = close_calls()
    pre = _exact(*tensors)
    expected = (pre >= 0.99 * pre.amax(dim=1, keepdim=True)) & (pre > 0)
    assert (expected.sum(dim=1) > 1).all()
    _assert_found(largest.of_tokens(_screen(*tensors), 1, ties=0.01), expected, pre)


def test_a_guess_too_high_is_found_out(way, monkeypatch):
    """Slack is only a guess: without any, and with far too much, the same is found."""
    x, W_enc, b_enc = case(loud_latents=30.0)
    pre = _exact(x, W_enc, b_enc)
    expected = (pre >= pre.sort(dim=1, descending=True).values[:, K - 1 : K]) & (pre > 0)
    chunks = Screen.chunks
    for slack in (-5.0, 5.0):

        def guessing(screen, slack=slack):
            for chunk in chunks(screen):
                yield replace(chunk, slack=chunk.slack + slack)

        monkeypatch.setattr(Screen, "chunks", guessing)
        found = largest.of_tokens(Screen(x, Encoder(W_enc, b_enc)), K)
        assert torch.equal(_mask(found), expected)


@pytest.mark.parametrize("factor", [1e20, 1e30])
@pytest.mark.parametrize("side", [0, 1])
def test_the_largest_of_very_large_numbers_are_found(way, side, factor):
    tensors = list(case())
    tensors[side] = tensors[side] * factor
    expected = _exact(*tensors).topk(K, dim=1).values
    found = largest.of_tokens(_screen(*tensors), K)
    assert found.counts.tolist() == [K] * TOKENS
    torch.testing.assert_close(found.values, expected.float())


def test_what_overflows_to_no_number_is_refused(way):
    x, W_enc, b_enc = case()
    W_enc[:] = 3e38
    x[:] = torch.tensor([1e3, -1e3]).repeat(x.shape[1] // 2)
    with pytest.raises(NotFiniteError, match="pre-activations"):
        largest.of_tokens(_screen(x, W_enc, b_enc), K)


@pytest.mark.parametrize("loud", [1.0, 4.0])
@pytest.mark.parametrize("floor", [0.0, 3.0])
def test_a_wrong_guess_does_not_list_half_of_the_matrix(way, loud, floor, monkeypatch):
    """The first tokens are louder than the others, or the last batch was."""
    x, W_enc, b_enc = case()
    x[: TOKENS // 8] *= loud
    listed = []
    above = largest._Candidates.above.__func__

    def counting(cls, screen, level):
        candidates = above(cls, screen, level)
        listed.append(len(candidates.flat))
        return candidates

    monkeypatch.setattr(largest._Candidates, "above", classmethod(counting))
    largest.of_batch(_screen(x, W_enc, b_enc), 2, floor)
    assert len(listed) <= 2
    assert max(listed) < 0.3 * TOKENS * LATENTS


def test_a_token_of_nothing_has_no_candidates(way):
    x, W_enc, b_enc = case()
    chunk = next(_screen(torch.zeros_like(x), W_enc, torch.zeros_like(b_enc)).chunks())
    assert len(chunk.at_least(torch.tensor(0.0))) == 0
