"""Which latents are active, and the sparse pass through them against dense autograd."""

import pytest
import torch

from gossamer.training import active


@pytest.fixture
def pre():
    return torch.randn(7, 20, generator=torch.Generator().manual_seed(0))


def _mask(found):
    mask = torch.zeros(len(found.starts) - 1, found.n_latents, dtype=torch.bool)
    mask[found.tokens, found.latents] = True
    return mask


def test_topk_keeps_the_k_largest_positive_ones_of_every_token(pre):
    mask = _mask(active.topk(pre, 4))
    threshold = pre.topk(4, dim=1).values[:, -1:]
    assert torch.equal(mask, (pre >= threshold) & (pre > 0))


@pytest.mark.parametrize("floor", [0.0, 0.3, 5.0])
def test_batchtopk_keeps_the_largest_of_the_batch_whatever_the_guess(pre, floor):
    found, smallest = active.batchtopk(pre, 4, floor)
    expected = pre.reshape(-1).topk(28).values
    assert smallest == pytest.approx(float(expected[-1]))
    assert torch.equal(_mask(found), pre >= expected[-1])


def test_batchtopk_keeps_only_positive_ones_when_there_are_too_few(pre):
    found, smallest = active.batchtopk(pre, 19)
    assert torch.equal(_mask(found), pre > 0)
    assert smallest == pytest.approx(float(pre[pre > 0].min()))


def test_nothing_positive_is_no_active_latent(pre):
    found, smallest = active.batchtopk(-pre.abs(), 3)
    assert len(found.latents) == 0
    assert smallest == 0


def test_above_is_a_threshold(pre):
    assert torch.equal(_mask(active.above(pre, 0.7)), pre > 0.7)


@pytest.mark.parametrize("sparse", [True, False])
def test_reconstruction_and_its_gradients_equal_dense_autograd(pre, sparse, monkeypatch):
    if sparse and not active.has_sparse_products(torch.device("cpu")):
        pytest.skip("torch without MKL has no sparse products")
    monkeypatch.setattr(active, "has_sparse_products", lambda device: sparse)
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 5), (5, 20), (20,), (20, 5)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    x, W_enc, b_enc, W_dec = tensors
    pre = (x @ W_enc + b_enc).detach()
    found = active.topk(pre, 3)
    out = active.reconstruct(x, W_enc, b_enc, W_dec, pre, found)
    dense = ((x @ W_enc + b_enc) * _mask(found)) @ W_dec
    torch.testing.assert_close(out, dense)
    weights = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((out * weights).sum(), tensors), torch.autograd.grad((dense * weights).sum(), tensors)
    )


def test_parts_reconstruct_what_their_latents_write():
    if not active.has_sparse_products(torch.device("cpu")):
        pytest.skip("torch without MKL has no sparse products")
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 5), (5, 20), (20,), (20, 5)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    x, W_enc, b_enc, W_dec = tensors
    pre = (x @ W_enc + b_enc).detach()
    found = active.topk(pre, 3)
    out = active.reconstruct_parts(x, W_enc, b_enc, W_dec, pre, found, [4, 9, 20])
    latents = (x @ W_enc + b_enc) * _mask(found)
    dense = torch.stack([latents[:, a:b] @ W_dec[a:b] for a, b in ((0, 4), (4, 9), (9, 20))], dim=1)
    torch.testing.assert_close(out, dense)
    weights = torch.randn(7, 3, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((out * weights).sum(), tensors), torch.autograd.grad((dense * weights).sum(), tensors)
    )
