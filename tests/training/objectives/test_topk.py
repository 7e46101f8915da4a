"""TopK is its equation on either path, and k larger than the dictionary is refused."""

import pytest
import torch
from objective_fixtures import assert_slopes, batch, context, gradients, parameters, total

from gossamer.errors import UsageError
from gossamer.training import chosen
from gossamer.training.config import DictionaryTrainerConfig
from gossamer.training.objectives import AuxK, BatchTopK, Matryoshka, TopK

OBJECTIVE = TopK(k=3, aux=AuxK(weight=0.0))


def test_the_loss_is_the_written_equation():
    p, (x, y) = parameters(OBJECTIVE), batch()
    pre = x @ p["W_enc"] + p["b_enc"]
    kept = (pre >= pre.sort(dim=1, descending=True).values[:, 2:3]) & (pre > 0)
    found = OBJECTIVE.outcome(p, x, y, context())
    torch.testing.assert_close(found.loss, ((y - (pre * kept) @ p["W_dec"] - p["b_dec"]) ** 2).mean())
    assert torch.equal(found.fired, kept.sum(dim=0))


def test_gradients_are_slopes():
    p, (x, y) = parameters(OBJECTIVE), batch()
    assert_slopes(OBJECTIVE, p, x, y, context(), list(p))


@pytest.mark.parametrize("make", [TopK, BatchTopK, Matryoshka])
def test_masks_and_sparse_rows_give_the_same(make, monkeypatch):
    """The path of devices without sparse products, run on this one."""
    objective = make(k=3, aux=AuxK(k=2, weight=0.5))
    p, (x, y) = parameters(objective), batch()
    with torch.no_grad():
        p["b_enc"][:5] = -20.0
    at = context(dead_unless_fired=torch.arange(16) < 7)

    def both():
        found = objective.outcome(p, x, y, at)
        return found, gradients(total(objective, p, x, y, at), p)

    sparse, sparse_gradients = both()
    monkeypatch.setattr(chosen, "has_sparse_products", lambda device: False)
    masked, masked_gradients = both()
    assert torch.equal(sparse.fired, masked.fired)
    assert sparse.smallest == masked.smallest
    for name in ("loss", "auxiliary_loss", "error"):
        torch.testing.assert_close(getattr(sparse, name), getattr(masked, name))
    torch.testing.assert_close(sparse_gradients, masked_gradients)


@pytest.mark.parametrize("make", [TopK, BatchTopK, Matryoshka])
@pytest.mark.parametrize(("k", "message"), [(17, "k from 1 to n_latents=16"), (0, "k of at least 1")])
def test_an_impossible_k_is_refused(make, k, message):
    with pytest.raises(UsageError, match=message):
        DictionaryTrainerConfig(16, make(k=k), sensitivity=0.0)


def test_topk_with_a_metric_is_refused():
    with pytest.raises(UsageError, match="sensitivity of 0 with the objective topk"):
        DictionaryTrainerConfig(16, TopK(k=3), sensitivity=0.5)
