"""The gated loss is its equation, and the frozen decoder is frozen."""

import torch
from objective_fixtures import D, assert_slopes, batch, context, gradients, parameters

from gossamer.training.objectives import Gated

OBJECTIVE = Gated(coefficient=0.7)


def _written(p, x, y, frozen):
    pre = x @ p["W_enc"]
    opened = (pre + p["b_gate"]).clamp(min=0)
    f = (opened > 0) * (pre * p["r_mag"].exp() + p["b_mag"]).clamp(min=0)
    main = ((y - f @ p["W_dec"] - p["b_dec"]) ** 2).sum()
    by_gate = ((y - opened @ frozen["W_dec"] - frozen["b_dec"]) ** 2).sum()
    return (main + by_gate + 0.7 * (opened * p["W_dec"].norm(dim=1)).sum()) / len(x) / D


def test_the_loss_is_the_written_equation():
    p, (x, y) = parameters(OBJECTIVE), batch()
    torch.testing.assert_close(OBJECTIVE.outcome(p, x, y, context()).loss, _written(p, x, y, p))


def test_gradients_are_slopes_with_the_decoder_of_the_gate_held_fixed():
    p, (x, y) = parameters(OBJECTIVE), batch()
    frozen = {name: p[name].detach() for name in ("W_dec", "b_dec")}
    assert_slopes(OBJECTIVE, p, x, y, context(), list(p), lambda q: _written(q, x, y, frozen))


def test_with_closed_gates_only_the_bias_learns_to_decode():
    p, (x, y) = parameters(OBJECTIVE), batch()
    closed = {**p, "b_gate": (p["b_gate"] - 100).detach().requires_grad_()}
    found = gradients(OBJECTIVE.outcome(closed, x, y, context()).loss, closed)
    assert found["W_dec"].abs().max() == 0
    torch.testing.assert_close(found["b_dec"], -2 * (y - p["b_dec"]).mean(dim=0) / D)
