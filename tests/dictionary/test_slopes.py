"""Slopes, held or looked up, are the products of residuals and rows."""

import pytest
import torch

from gossamer.dictionary import slopes
from gossamer.dictionary.slopes import DecoderRows, Held, LookedUp
from gossamer.sparse import screen
from gossamer.sparse.backend import has_sparse_products
from gossamer.sparse.screen import Encoder

LATENTS = torch.tensor([[3, 0, 7], [5, 5, 0], [0, 0, 0], [39, 1, 2], [4, 8, 15]])


@pytest.fixture(params=["held", "looked up", "looked up through bounds"])
def way(request, monkeypatch):
    if request.param == "held":
        return lambda residual, rows: Held(residual @ rows.T)
    if not has_sparse_products(torch.device("cpu")):
        pytest.skip("torch without MKL has no sparse products")
    monkeypatch.setattr(screen, "_PAYS", 0)
    monkeypatch.setattr(screen, "multiplies_in_bfloat16", lambda: request.param.endswith("bounds"))
    return lambda residual, rows: LookedUp(residual, Encoder(rows.T, rows.new_zeros(len(rows))))


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    residual, rows = torch.randn(5, 12, generator=generator), torch.randn(40, 12, generator=generator)
    # No row points to the third, and rows that bfloat16 cannot tell apart compete for the first.
    residual[2] = 0
    rows[3] = 2 * residual[0]
    rows[4] = 2.0002 * residual[0]
    return residual, rows


def test_the_largest_product_is_found_and_what_is_not_positive_is_none(way, data):
    residual, rows = data
    values, latents = way(residual, rows).largest()
    expected = residual.double() @ rows.double().T
    torch.testing.assert_close(values, expected.amax(dim=1).clamp(min=0).float())
    positive = values > 0
    assert torch.equal(latents[positive], expected.argmax(dim=1)[positive])
    assert positive.tolist() == [True, True, False, True, True]


def test_products_of_some_latents_also_of_one_twice(way, data):
    residual, rows = data
    torch.testing.assert_close(way(residual, rows).at(LATENTS), (residual @ rows.T).gather(1, LATENTS))


def test_what_a_change_does_to_the_slope(way, data):
    residual, rows = data
    tokens = torch.tensor([True, False, True, True, False])
    change, indices = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)), LATENTS[tokens]
    mapped = torch.einsum("ts,tsd->td", change, rows[indices])
    found = way(residual, rows).along(change, indices, mapped, tokens)
    torch.testing.assert_close(found, (mapped * residual[tokens]).sum(dim=1))


@pytest.mark.parametrize(("bounds", "asked", "paired"), [(False, None, True), (True, None, False), (True, 6400, True)])
def test_pairs_are_made_where_they_pay(data, monkeypatch, bounds, asked, paired):
    """40 rows: 6,400 bytes of pairs."""
    monkeypatch.setattr(slopes, "GRAM_BYTES", 6400)
    monkeypatch.setattr(slopes, "GRAM_BYTES_BESIDE_BOUNDS", 6399)
    monkeypatch.setattr(slopes, "worth_bounds", lambda encoder: bounds)
    found = DecoderRows.of(data[1], asked)
    assert (found.gram is not None) == paired
    assert isinstance(found.slopes(data[0]), Held) == (paired or not LookedUp.fits(data[1]))
