"""The sparse pass through active latents against dense autograd."""

import pytest
import torch

from gossamer.sparse import active
from gossamer.sparse.active import Active, has_sparse_products, reconstruct, reconstruct_parts

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


def _active(mask):
    return Active.from_flat(mask.reshape(-1).nonzero()[:, 0], *mask.shape)


def _assert_same(out, dense, tensors):
    torch.testing.assert_close(out, dense)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((out * weights).sum(), tensors), torch.autograd.grad((dense * weights).sum(), tensors)
    )


def test_reconstruction_and_its_gradients_equal_dense_autograd(tensors, mask):
    x, W_enc, b_enc, W_dec = tensors
    pre = x @ W_enc + b_enc
    out = reconstruct(x, W_enc, b_enc, W_dec, _active(mask), pre.detach()[mask])
    _assert_same(out, (pre * mask) @ W_dec, tensors)


def test_parts_reconstruct_what_their_latents_write(tensors, mask):
    x, W_enc, b_enc, W_dec = tensors
    pre = x @ W_enc + b_enc
    out = reconstruct_parts(x, W_enc, b_enc, W_dec, _active(mask), pre.detach()[mask], [4, 9, 20])
    latents = pre * mask
    dense = torch.stack([latents[:, a:b] @ W_dec[a:b] for a, b in ((0, 4), (4, 9), (9, 20))], dim=1)
    _assert_same(out, dense, tensors)


def test_some_of_the_entries_are_those_of_a_smaller_mask(mask):
    active = _active(mask)
    kept = torch.arange(len(active.latents)) % 3 == 0
    smaller = torch.zeros_like(mask)
    smaller[active.tokens[kept], active.latents[kept]] = True
    found = active.only(kept)
    assert torch.equal(found.starts, _active(smaller).starts)
    assert torch.equal(found.latents, _active(smaller).latents)


def test_an_order_by_latent_keeps_the_tokens_order(mask):
    active = _active(mask)
    order = active.order
    assert torch.equal(active.by_latent(order).latents, mask.t().nonzero()[:, 1])
    assert torch.equal(active.latents[order], mask.t().nonzero()[:, 0])


@pytest.mark.parametrize(
    ("error", "warned"),
    [
        (ModuleNotFoundError("none", name="triton"), False),
        (ImportError("broken"), True),
        (RuntimeError("no compiler"), True),
    ],
)
def test_a_triton_that_does_not_run_is_done_without(error, warned, monkeypatch, recwarn):
    def fails():
        raise error

    monkeypatch.setattr(active, "_kernels", fails)
    assert not active.kernels_work(torch.device("cpu"))
    assert [str(error) in str(one.message) for one in recwarn] == [True] * warned


def test_a_triton_that_computes_something_else_is_done_without(monkeypatch):
    class Wrong:
        @staticmethod
        def products(*tensors):
            return torch.zeros(1)

        sums = products

    monkeypatch.setattr(active, "_kernels", lambda: Wrong)
    assert not active.kernels_work(torch.device("cpu"))
