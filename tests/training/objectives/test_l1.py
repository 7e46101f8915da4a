"""L1 is its equation, its gradients are its slopes, and a decoder that could escape it is refused."""

import pytest
import torch
from objective_fixtures import D, assert_slopes, batch, context, parameters

from gossamer.errors import UsageError
from gossamer.training.config import DictionaryTrainerConfig, OptimiserConfig
from gossamer.training.objectives import L1


def test_the_loss_is_the_written_equation():
    objective = L1(coefficient=0.7)
    p, (x, y) = parameters(objective), batch()
    f = (x @ p["W_enc"] + p["b_enc"]).clamp(min=0)
    expected = ((y - f @ p["W_dec"] - p["b_dec"]) ** 2).sum() + 0.7 * f.sum()
    found = objective.outcome(p, x, y, context())
    torch.testing.assert_close(found.loss, expected / len(x) / D)
    assert torch.equal(found.fired, (f > 0).sum(dim=0))
    torch.testing.assert_close(found.error, y - f @ p["W_dec"] - p["b_dec"])


def test_gradients_are_slopes():
    objective = L1(coefficient=0.7)
    p, (x, y) = parameters(objective), batch()
    assert_slopes(objective, p, x, y, context(), list(p))


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.9, 1.0)])
def test_the_coefficient_rises_over_the_warm_up(share, factor):
    objective = L1(coefficient=2.0, warm_up=0.2)
    p, (x, y) = parameters(objective), batch()
    found, bare = (one.outcome(p, x, y, context(share)).loss for one in (objective, L1(coefficient=0.0)))
    full = L1(coefficient=2.0, warm_up=0.0).outcome(p, x, y, context()).loss
    torch.testing.assert_close(found - bare, factor * (full - bare))


def test_a_free_decoder_is_refused():
    with pytest.raises(UsageError, match="norm_weighted_l1 takes free norms"):
        DictionaryTrainerConfig(objective=L1(), optimiser=OptimiserConfig(decoder_norm="free"))
    DictionaryTrainerConfig(objective=L1(), optimiser=OptimiserConfig(decoder_norm="at_most_one"))


@pytest.mark.parametrize("settings", [{"coefficient": -1.0}, {"warm_up": 1.5}, {"coefficient": float("nan")}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError, match=r"of l1|coefficient to be a finite number, found nan"):
        L1(**settings)
