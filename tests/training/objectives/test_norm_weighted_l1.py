"""The norm-weighted penalty is its equation, and cannot be escaped by long decoder rows."""

import torch
from objective_fixtures import D, assert_slopes, batch, context, parameters

from gossamer.training.objectives import NormWeightedL1


def test_the_loss_is_the_written_equation():
    objective = NormWeightedL1(coefficient=0.7)
    p, (x, y) = parameters(objective), batch()
    f = (x @ p["W_enc"] + p["b_enc"]).clamp(min=0)
    penalty = sum(f[:, j].sum() * p["W_dec"][j].square().sum().sqrt() for j in range(f.shape[1]))
    expected = ((y - f @ p["W_dec"] - p["b_dec"]) ** 2).sum() + 0.7 * penalty
    torch.testing.assert_close(objective.outcome(p, x, y, context()).loss, expected / len(x) / D)


def test_gradients_are_slopes():
    objective = NormWeightedL1(coefficient=0.7)
    p, (x, y) = parameters(objective), batch()
    assert_slopes(objective, p, x, y, context(), list(p))


def test_smaller_latents_with_longer_rows_cost_the_same():
    objective = NormWeightedL1(coefficient=0.7)
    p, (x, y) = parameters(objective), batch()
    other = {"W_enc": p["W_enc"] / 3, "b_enc": p["b_enc"] / 3, "W_dec": p["W_dec"] * 3, "b_dec": p["b_dec"]}
    found = [objective.outcome(one, x, y, context()).loss for one in (p, other)]
    torch.testing.assert_close(*found)
