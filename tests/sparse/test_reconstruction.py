"""The sparse pass through active latents against dense autograd."""

import pytest
import torch

from gossamer.sparse.backend import has_sparse_products
from gossamer.sparse.latents import SparseLatents
from gossamer.sparse.reconstruction import reconstruct, reconstruct_parts

pytestmark = pytest.mark.skipif(
    not has_sparse_products(torch.device("cpu")), reason="torch without MKL has no sparse products"
)


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 5), (5, 20), (20,), (20, 5)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.fixture
def mask():
    chosen = torch.rand(7, 20, generator=torch.Generator().manual_seed(2)) < 0.2
    # Tokens and latents with nothing at all are rows without entries.
    chosen[3] = False
    chosen[:, 11] = False
    return chosen


def _latents(mask, pre):
    return SparseLatents.from_flat(mask.reshape(-1).nonzero()[:, 0], pre.detach()[mask], *mask.shape)


def _assert_same(out, dense, tensors):
    torch.testing.assert_close(out, dense)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((out * weights).sum(), tensors), torch.autograd.grad((dense * weights).sum(), tensors)
    )


def test_reconstruction_and_its_gradients_equal_dense_autograd(tensors, mask):
    x, W_enc, b_enc, W_dec = tensors
    pre = x @ W_enc + b_enc
    out = reconstruct(x, W_enc, b_enc, W_dec, _latents(mask, pre))
    _assert_same(out, (pre * mask) @ W_dec, tensors)


def test_parts_reconstruct_what_their_latents_write(tensors, mask):
    x, W_enc, b_enc, W_dec = tensors
    pre = x @ W_enc + b_enc
    out = reconstruct_parts(x, W_enc, b_enc, W_dec, _latents(mask, pre), [4, 9, 20])
    latents = pre * mask
    dense = torch.stack([latents[:, a:b] @ W_dec[a:b] for a, b in ((0, 4), (4, 9), (9, 20))], dim=1)
    _assert_same(out, dense, tensors)
