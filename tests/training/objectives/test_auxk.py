"""AuxK: what dead latents are asked for, and that it reaches their encoder rows."""

import pytest
import torch
from objective_fixtures import D, N, batch, context, gradients, parameters, slope

from gossamer.errors import UsageError
from gossamer.training.objectives import AuxK, BatchTopK, Matryoshka, TopK

DEAD = torch.arange(N) < 5


@pytest.fixture
def p():
    found = parameters(TopK())
    with torch.no_grad():
        found["b_enc"][DEAD] -= 20.0
    return found


def _written(p, x, error, k=2):
    pre = (x @ p["W_enc"] + p["b_enc"])[:, DEAD]
    kept = pre * (pre >= pre.sort(dim=1, descending=True).values[:, k - 1 : k])
    return ((error - kept @ p["W_dec"][DEAD]) ** 2).sum() / len(x) / D


def test_the_term_is_the_written_equation_on_both_paths(p):
    x, error = batch()
    aux = AuxK(k=2, weight=0.5)
    torch.testing.assert_close(aux.loss(p, x, error, DEAD), 0.5 * _written(p, x, error))
    pre = x @ p["W_enc"] + p["b_enc"]
    torch.testing.assert_close(aux.masked(p["W_dec"], pre, error, DEAD), _written(p, x, error))


def test_gradients_are_slopes(p):
    x, error = batch()
    found = gradients(AuxK(k=2, weight=1.0).loss(p, x, error, DEAD), p)
    for name in ("W_enc", "W_dec", "b_enc"):
        direction, expected = slope(lambda q: _written(q, x, error), p, name)
        assert float((found[name] * direction).sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [TopK, BatchTopK, Matryoshka])
def test_dead_encoder_rows_get_a_gradient(p, make):
    """Latents negative on every token: without AuxK nothing reaches them, with it everything of theirs moves."""
    x, y = batch()
    at = context(dead_unless_fired=DEAD)
    found = make(k=3, aux=AuxK(k=5)).outcome(p, x, y, at)
    assert found.fired[DEAD].sum() == 0
    without = gradients(found.loss, p)
    assert without["W_enc"][:, DEAD].abs().max() == 0
    gradient = gradients(found.auxiliary_loss, p)
    assert gradient["W_enc"][:, DEAD].norm(dim=0).min() > 0
    assert gradient["W_dec"][DEAD].norm(dim=1).min() > 0
    assert gradient["b_enc"][DEAD].abs().min() > 0
    assert gradient["W_enc"][:, ~DEAD].abs().max() == 0
    assert gradient["W_dec"][~DEAD].abs().max() == 0
    assert gradient["b_dec"] is None


def test_what_fires_in_the_batch_takes_no_part():
    p, (x, y) = parameters(TopK()), batch()
    found = TopK(k=N, aux=AuxK()).outcome(p, x, y, context(dead_unless_fired=torch.ones(N, dtype=torch.bool)))
    assert found.fired.min() > 0
    assert found.auxiliary_loss == 0


def test_nothing_dead_is_0_on_both_paths(p):
    x, error = batch()
    nobody = torch.zeros(N, dtype=torch.bool)
    assert AuxK().loss(p, x, error, nobody) == 0
    pre = x @ p["W_enc"] + p["b_enc"]
    masked = AuxK(k=2).masked(p["W_dec"], pre, error, nobody)
    assert masked == 0
    assert all(value is None or value.abs().max() == 0 for value in gradients(masked, p).values())


def test_fewer_dead_than_k_is_no_error(p):
    x, error = batch()
    few = torch.arange(N) < 2
    pre = x @ p["W_enc"] + p["b_enc"]
    aux = AuxK(k=8, weight=1.0)
    torch.testing.assert_close(aux.loss(p, x, error, few), aux.masked(p["W_dec"], pre, error, few))


@pytest.mark.parametrize("settings", [{"k": 0}, {"weight": -1.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError, match="AuxK"):
        AuxK(**settings)
