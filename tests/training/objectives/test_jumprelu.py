"""Each of the three penalties is its equation; thresholds learn, and never fall below 0."""

from dataclasses import replace

import pytest
import torch
from objective_fixtures import D, N, assert_slopes, batch, context, gradients, parameters

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.objectives import QuadraticL0, StepL0, TanhPenalty

OBJECTIVES = [
    StepL0(coefficient=0.7, bandwidth=0.4),
    TanhPenalty(coefficient=0.7, scale=2.0, pre_activation=0.3, bandwidth=0.4),
    TanhPenalty(coefficient=0.7, scale=2.0, pre_activation=0.3, bandwidth=0.4, dead_only=True, through_encoder=False),
    QuadraticL0(coefficient=0.7, target=3.0, bandwidth=0.4),
    QuadraticL0(coefficient=0.7, target=3.0, bandwidth=0.4, per_token=True),
]


def _latents(p, x):
    pre = x @ p["W_enc"] + p["b_enc"]
    return pre, pre * (pre > p["threshold"])


def _penalty(objective, p, x, dead):
    """Of the batch, by the equations of the module."""
    pre, f = _latents(p, x)
    l0 = (pre > p["threshold"]).sum(dim=1).double()
    norms = p["W_dec"].norm(dim=1)
    if isinstance(objective, StepL0):
        return 0.7 * l0.mean()
    if isinstance(objective, TanhPenalty):
        counted = dead.double() if objective.dead_only else torch.ones(N, dtype=torch.float64)
        below = ((p["threshold"] - pre).clamp(min=0) * norms * counted).sum(dim=1).mean()
        return 0.7 * torch.tanh(2.0 * f * norms).sum(dim=1).mean() + 0.3 * below
    if objective.per_token:
        return 0.7 * (2 / 3.0 * (l0 - 3.0) ** 2).mean()
    return 0.7 * D * (l0.mean() / 3.0 - 1) ** 2


def _batch_with_dead(objective):
    p, (x, y) = parameters(objective), batch()
    with torch.no_grad():
        p["b_enc"][:4] = -50.0
    dead_unless_fired = torch.arange(N) < 8
    return p, x, y, dead_unless_fired


def _written(objective, p, x, y, dead):
    error = y - _latents(p, x)[1] @ p["W_dec"] - p["b_dec"]
    return ((error**2).sum(dim=1).mean() + _penalty(objective, p, x, dead)) / D


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_is_the_written_equation(objective):
    p, x, y, dead_unless_fired = _batch_with_dead(objective)
    found = objective.outcome(p, x, y, context(dead_unless_fired=dead_unless_fired))
    dead = dead_unless_fired & (found.fired == 0)
    assert 4 <= dead.sum() < 8
    whole = found.loss if found.auxiliary_loss is None else found.loss + found.auxiliary_loss
    torch.testing.assert_close(whole, _written(objective, p, x, y, dead))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_of_the_decoder_are_slopes(objective):
    p, x, y, dead_unless_fired = _batch_with_dead(objective)
    assert_slopes(objective, p, x, y, context(dead_unless_fired=dead_unless_fired), ["W_dec", "b_dec"])


@pytest.mark.parametrize("objective", [one for one in OBJECTIVES if not one.through_encoder])
def test_gradients_of_the_encoder_are_slopes_where_the_estimate_leaves_it_alone(objective):
    p, x, y, dead_unless_fired = _batch_with_dead(objective)
    assert_slopes(objective, p, x, y, context(dead_unless_fired=dead_unless_fired), ["W_enc", "b_enc"])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_penalty_raises_thresholds(objective):
    """With more latents than wanted on every token, the gradient of the penalty says: raise the thresholds."""
    wanting = replace(objective, target=0.01) if isinstance(objective, QuadraticL0) else objective
    p, (x, y) = parameters(objective), batch()
    both = (wanting, replace(wanting, coefficient=0.0))
    found, without = (gradients(one.outcome(p, x, y, context()).loss, p)["threshold"] for one in both)
    assert (found - without).min() < 0
    assert (found - without).max() <= 1e-12


def test_thresholds_stay_at_0_or_above():
    p = parameters(StepL0())
    with torch.no_grad():
        p["threshold"] -= 0.3
        before = p["threshold"].clone()
        StepL0().project(p)
    assert before.min() < 0
    assert torch.equal(p["threshold"], before.clamp(min=0))


@pytest.mark.parametrize(("width", "near"), [(8, 0.5), (64, 2.5)])
def test_the_quadratic_penalty_of_coefficient_1_drives_l0_to_its_target_at_any_width(width, near):
    x = torch.randn(512, width, generator=torch.Generator().manual_seed(0))
    objective = QuadraticL0(target=4.0, bandwidth=0.3, initial_threshold=0.1)
    settings = DictionaryTrainerConfig(
        4 * width, objective, optimiser=OptimiserConfig(learning_rate=0.01), sensitivity=0.0
    )
    trainer = DictionaryTrainer.begin(DictionarySpec("toy", Site("resid_post", 0), None, settings), 300, x)
    found = [float(trainer.step(x, None, step)["l0"]) for step in range(300)]
    assert found[0] > 8
    assert found[-1] == pytest.approx(4.0, abs=near)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepL0(bandwidth=0.0), "positive bandwidth"),
        (lambda: StepL0(initial_threshold=-0.1), "initial_threshold of at least 0"),
        (lambda: TanhPenalty(scale=0.0), "positive scale"),
        (lambda: QuadraticL0(target=0.0), "positive target"),
        (lambda: DictionaryTrainerConfig(16, QuadraticL0(target=17.0)), "target L0 up to n_latents=16"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
