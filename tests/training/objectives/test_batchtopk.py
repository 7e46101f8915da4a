"""BatchTopK keeps the batch's largest, and its threshold follows the smallest of them."""

import pytest
import torch
from objective_fixtures import assert_slopes, batch, context, parameters

from gossamer.errors import UsageError
from gossamer.training import chosen
from gossamer.training.objectives import AuxK, BatchTopK

OBJECTIVE = BatchTopK(k=3, aux=AuxK(weight=0.0))


def test_the_loss_is_the_written_equation():
    p, (x, y) = parameters(OBJECTIVE), batch()
    pre = x @ p["W_enc"] + p["b_enc"]
    smallest = pre.reshape(-1).sort(descending=True).values[3 * len(x) - 1]
    found = OBJECTIVE.outcome(p, x, y, context())
    kept = pre * (pre >= smallest)
    torch.testing.assert_close(found.loss, ((y - kept @ p["W_dec"] - p["b_dec"]) ** 2).mean())
    torch.testing.assert_close(found.smallest, smallest.detach())
    assert found.fired.sum() == 3 * len(x)


def test_gradients_are_slopes():
    p, (x, y) = parameters(OBJECTIVE), batch()
    assert_slopes(OBJECTIVE, p, x, y, context(), list(p))


@pytest.mark.parametrize("sparse", [True, False])
def test_too_few_positive_ones_are_all_kept(sparse, monkeypatch):
    if not sparse:
        monkeypatch.setattr(chosen, "has_sparse_products", lambda device: False)
    p, (x, y) = parameters(OBJECTIVE), batch()
    with torch.no_grad():
        p["b_enc"] -= 2.0
    pre = x @ p["W_enc"] + p["b_enc"]
    assert 0 < (pre > 0).sum() < 3 * len(x)
    found = OBJECTIVE.outcome(p, x, y, context())
    assert torch.equal(found.fired, (pre > 0).sum(dim=0))
    torch.testing.assert_close(found.smallest, pre[pre > 0].min().detach())
    with torch.no_grad():
        p["b_enc"] -= 200.0
    nothing = OBJECTIVE.outcome(p, x, y, context())
    assert nothing.fired.sum() == 0
    assert nothing.smallest == 0


def test_the_threshold_is_a_moving_average_that_starts_at_the_first():
    objective = BatchTopK(threshold_decay=0.75)
    threshold = torch.tensor(-1.0, dtype=torch.float64)
    for smallest, expected in ((0.8, 0.8), (0.4, 0.7), (0.3, 0.6)):
        threshold = objective.next_threshold(threshold, torch.tensor(smallest, dtype=torch.float64))
        assert float(threshold) == pytest.approx(expected)


def test_a_threshold_that_never_moves_is_refused():
    with pytest.raises(UsageError, match="threshold_decay"):
        BatchTopK(threshold_decay=1.0)
