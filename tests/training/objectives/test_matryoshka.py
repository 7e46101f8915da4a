"""Every prefix is judged by itself, and one prefix alone is BatchTopK."""

import pytest
import torch
from objective_fixtures import D, assert_slopes, batch, context, gradients, parameters, total

from gossamer.errors import UsageError
from gossamer.training.config import DictionaryTrainerConfig
from gossamer.training.objectives import AuxK, BatchTopK, Matryoshka

OBJECTIVE = Matryoshka(k=3, prefixes=(0.25, 0.5, 1.0), aux=AuxK(weight=0.0))


def test_the_loss_is_the_written_equation():
    p, (x, y) = parameters(OBJECTIVE), batch()
    pre = x @ p["W_enc"] + p["b_enc"]
    a = pre * (pre >= pre.reshape(-1).sort(descending=True).values[3 * len(x) - 1])
    losses = [((y - a[:, :m] @ p["W_dec"][:m] - p["b_dec"]) ** 2).sum() / len(x) / D for m in (4, 8, 16)]
    found = OBJECTIVE.outcome(p, x, y, context())
    torch.testing.assert_close(found.loss, sum(losses) / 3)
    torch.testing.assert_close(found.error, y - a @ p["W_dec"] - p["b_dec"])


def test_gradients_are_slopes():
    p, (x, y) = parameters(OBJECTIVE), batch()
    assert_slopes(OBJECTIVE, p, x, y, context(), list(p))


def test_one_prefix_is_batchtopk():
    aux = AuxK(k=2, weight=0.5)
    one, other = Matryoshka(k=3, prefixes=(1.0,), aux=aux), BatchTopK(k=3, aux=aux)
    p, (x, y) = parameters(one), batch()
    with torch.no_grad():
        p["b_enc"][:5] = -20.0
    at = context(dead_unless_fired=torch.arange(16) < 7)
    found = [total(objective, p, x, y, at) for objective in (one, other)]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(gradients(value, p) for value in found))


@pytest.mark.parametrize("prefixes", [(0.5,), (0.5, 0.25, 1.0), (0.0, 1.0), (), (0.5, 0.5, 1.0), (0.01, 1.0)])
def test_impossible_prefixes_are_refused(prefixes):
    with pytest.raises(UsageError, match="prefixes"):
        DictionaryTrainerConfig(16, Matryoshka(k=3, prefixes=prefixes))
