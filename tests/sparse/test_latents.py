"""Sparse latents against the dense matrix that they stand for."""

import pytest
import torch

from gossamer.sparse.backend import has_sparse_products
from gossamer.sparse.latents import SparseLatents


@pytest.fixture
def dense():
    generator = torch.Generator().manual_seed(2)
    chosen = torch.rand(7, 20, generator=generator) < 0.2
    # Tokens and latents with nothing at all are rows without entries.
    chosen[3] = False
    chosen[:, 11] = False
    return (0.1 + torch.rand(7, 20, generator=generator, dtype=torch.float64)) * chosen


@pytest.fixture
def rows():
    return torch.randn(20, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def padded(dense, width=10):
    return SparseLatents.from_padded(*dense.topk(width, dim=-1), dense.shape[-1])


@pytest.fixture(params=["from dense", "padded", "joined"])
def latents(request, dense):
    if request.param == "joined":
        return SparseLatents.concatenate(
            [SparseLatents.from_dense(dense[:2]), padded(dense[2:5]), padded(dense[5:], 9)]
        )
    return SparseLatents.from_dense(dense) if request.param == "from dense" else padded(dense)


def test_it_is_the_dense_matrix(latents, dense):
    assert torch.equal(latents.dense(), dense)
    assert torch.equal(latents.l0, (dense > 0).sum(dim=1))
    assert latents.shape == (7,)
    assert repr(latents).startswith("SparseLatents(shape=(7,), n_latents=20, entries=")


def test_the_padded_view_is_strongest_first_and_again_the_same(latents, dense):
    width = latents.values.shape[1]
    assert width >= (dense > 0).sum(dim=1).max()
    assert torch.equal(latents.values, dense.sort(dim=1, descending=True).values[:, :width])
    assert torch.equal(dense.gather(1, latents.indices)[latents.values > 0], latents.values[latents.values > 0])
    assert torch.equal(SparseLatents.from_padded(latents.values, latents.indices, 20).dense(), dense)


def test_a_busy_token_takes_no_memory_of_others():
    busy = torch.zeros(50, 1000)
    busy[:, 0] = 1
    busy[7] = 1
    assert len(SparseLatents.from_dense(busy).latents) == 49 + 1000


def test_nothing_active_is_one_column_of_padding():
    for tokens in (0, 3):
        none = SparseLatents.from_dense(torch.zeros(tokens, 4))
        assert none.values.shape == none.indices.shape == (tokens, 1)
        assert none.dense().shape == (tokens, 4)
        assert torch.equal(none.decoded(torch.ones(4, 2)), torch.zeros(tokens, 2))


def test_tokens_keep_their_shape(dense, rows):
    batch = dense[:6].reshape(2, 3, 20)
    for found in (SparseLatents.from_dense(batch), padded(batch), SparseLatents.from_dense(dense[:6]).reshape(2, 3)):
        assert found.l0.shape == (2, 3)
        assert found.values.shape[:2] == found.indices.shape[:2] == (2, 3)
        assert torch.equal(found.to("cpu").dense(), batch)
        torch.testing.assert_close(found.decoded(rows), batch @ rows)
        assert torch.equal(SparseLatents.concatenate([found, found]).dense(), torch.cat([batch, batch]))


def test_padding_may_repeat_an_active_index():
    found = SparseLatents.from_padded(torch.tensor([[2.0, 0.0]]), torch.tensor([[0, 0]]), 3)
    assert found.dense().tolist() == [[2.0, 0.0, 0.0]]
    assert found.l0.tolist() == [1]


def test_what_is_not_a_number_is_not_lost():
    found = SparseLatents.from_dense(torch.tensor([[1.0, float("nan"), 0.0]]))
    assert found.latents.tolist() == [0, 1]
    assert found.decoded(torch.ones(3, 1)).isnan().all()


@pytest.mark.parametrize("view", [lambda found: found.dense(), lambda found: found.values])
def test_views_and_decoding_have_the_gradients_of_the_dense_matrix(dense, rows, view):
    weights = torch.rand(20, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    one, other = (dense.clone().requires_grad_() for _ in range(2))
    found = SparseLatents.from_dense(one)
    ((view(found) ** 2).sum() + (found.decoded(rows) * weights[:5]).sum()).backward()
    ((other**2).sum() + ((other @ rows) * weights[:5]).sum()).backward()
    # What is not active has no gradient.
    torch.testing.assert_close(one.grad, other.grad * (dense > 0))


def test_products_with_dense_rows(latents, dense, rows):
    values = torch.rand(len(latents.latents), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(latents.sums(values, rows), latents.with_activations(values).dense() @ rows)
    if has_sparse_products(torch.device("cpu")):
        left = torch.randn(7, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        torch.testing.assert_close(latents.products(left, rows), (left @ rows.T)[latents.tokens, latents.latents])


def test_some_of_the_entries_are_those_of_a_smaller_matrix(dense):
    found = SparseLatents.from_dense(dense)
    kept = torch.arange(len(found.latents)) % 3 == 0
    smaller = torch.zeros_like(dense)
    smaller[found.tokens[kept], found.latents[kept]] = found.activations[kept]
    assert torch.equal(found.only(kept).dense(), smaller)
    assert torch.equal(found.only(kept).starts, SparseLatents.from_dense(smaller).starts)


def test_the_strongest_by_a_score_and_the_first_of_equal_ones(dense):
    found = SparseLatents.from_dense(dense)
    scores = found.activations * (1 + found.latents % 5)
    values, chosen = (dense * (1 + torch.arange(20) % 5)).topk(2, dim=1)
    expected = torch.zeros_like(dense).scatter(1, chosen, dense.gather(1, chosen) * (values > 0))
    assert torch.equal(found.strongest(2, scores).dense(), expected)
    first = found.strongest(1, torch.ones_like(scores))
    active = (dense > 0).any(dim=1)
    assert torch.equal(first.latents, (dense > 0).byte().argmax(dim=1)[active])


def test_parts_are_rows_of_their_own(dense):
    bounds = [4, 9, 20]
    found = SparseLatents.from_dense(dense).in_parts(bounds)
    assert found.shape == (7, 3)
    for part, (start, end) in enumerate(((0, 4), (4, 9), (9, 20))):
        alone = torch.zeros_like(dense)
        alone[:, start:end] = dense[:, start:end]
        assert torch.equal(found.dense()[:, part], alone)


def test_an_order_by_latent_keeps_the_tokens_order(dense):
    found = SparseLatents.from_dense(dense)
    order = found.order
    turned = found.by_latent(order)
    assert torch.equal(turned.dense(), dense.T)
    assert torch.equal(turned.latents, (dense > 0).t().nonzero()[:, 1])
    assert torch.equal(found.latents[order], (dense > 0).t().nonzero()[:, 0])
