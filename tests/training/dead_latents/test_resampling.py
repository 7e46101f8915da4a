"""Resampling: when, from what, and what is left of the latents that were there."""

from dataclasses import replace

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig
from gossamer.training.dead_latents import Resampling
from gossamer.training.dead_latents.resampling import draw
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.gradients import Candidates
from gossamer.training.objectives import L1, Gated, NormWeightedL1, StepL0

REMEDY = Resampling(at=(0.5,), recovery=4)
STEPS = 10


def _learner(x, targets=None, **changes):
    settings = {"remedy": REMEDY, "sensitivity": 0.0, "dead_after": 100, "objective": L1(coefficient=0.1)}
    config = DictionaryTrainerConfig(**{"n_latents": 16, **settings, **changes})
    plan = DictionarySpec("toy", Site("mlp_in", 0), None if targets is None else Site("mlp_out", 0), config)
    return DictionaryTrainer.begin(plan, STEPS, x, targets)


def _x(seed=0):
    return torch.randn(64, 8, generator=torch.Generator().manual_seed(seed))


def _kill(learner, latents):
    bias = next(iter(learner.config.objective.vectors))
    with torch.no_grad():
        learner.parameters[bias][latents] = -100.0


def _through_the_event(learner, x, targets=None):
    for step in range(6):
        learner.step(x, targets, step)


@pytest.mark.parametrize("objective", [L1(coefficient=0.1), Gated(coefficient=0.1), StepL0(coefficient=0.1)])
def test_dead_latents_start_anew(objective):
    x = _x()
    one, still = _learner(x, objective=objective), _learner(x, objective=objective, remedy=None)
    for learner in (one, still):
        _kill(learner, slice(0, 3))
        _through_the_event(learner, x)
    p, state = one.parameters, one.optimiser.state()
    torch.testing.assert_close(p["W_dec"].norm(dim=1), torch.ones(16))
    living = p["W_enc"][:, 3:].norm(dim=0).mean()
    torch.testing.assert_close(p["W_enc"][:, :3].norm(dim=0), (0.2 * living).expand(3))
    for name, value in objective.vectors.items():
        assert (p[name][:3] == value).all()
    for name in p:
        for moment in (state[f"{name}.exp_avg"], state[f"{name}.exp_avg_sq"]):
            rows = moment.t() if name == "W_enc" else moment
            assert rows[:3].abs().max() == 0 or name == "b_dec"
            assert rows[3:].abs().max() > 0
    assert (one.tokens_since_fired[:3] == 0).all()
    for name in p:
        if name != "b_dec":
            rest = [(q[name].t() if name == "W_enc" else q[name])[3:] for q in (p, still.parameters)]
            assert torch.equal(*rest)


def test_a_new_latent_points_at_a_drawn_input():
    x = _x()
    one = _learner(x)
    _kill(one, slice(0, 3))
    for step in range(5):
        one.step(x, None, step)
    gradients = one.gradients(x, None, 5)
    expected = one.read.inward(x) - one.parameters["b_dec"].detach()
    torch.testing.assert_close(gradients.candidates.y, expected)
    one.update(gradients, 5)
    directions = expected / expected.norm(dim=1, keepdim=True)
    overlap = one.parameters["W_dec"][:3].detach() @ directions.t()
    torch.testing.assert_close(overlap.max(dim=1).values, torch.ones(3))
    torch.testing.assert_close(
        torch.nn.functional.cosine_similarity(one.parameters["W_enc"][:, :3].t(), one.parameters["W_dec"][:3]),
        torch.ones(3),
    )


def test_a_transcoders_new_latent_reads_the_input_and_writes_the_target():
    x, y = _x(), _x(1)
    one = _learner(x, y)
    _kill(one, slice(0, 1))
    _through_the_event(one, x, y)
    read = torch.nn.functional.cosine_similarity(one.read.inward(x), one.parameters["W_enc"][:, 0][None])
    assert float(read.detach().max()) == pytest.approx(1.0, abs=1e-5)
    # b_dec has moved by one step since nothing was drawn: the candidate is the target of the same token.
    written = torch.nn.functional.cosine_similarity(one.written.inward(y), one.parameters["W_dec"][:1])
    assert written.argmax() == read.argmax()


def test_with_free_norms_a_newcomer_has_the_norm_of_the_living():
    free = OptimiserConfig(decoder_norm="free")
    one = _learner(_x(), objective=NormWeightedL1(coefficient=0.1), optimiser=free, initial_norm=0.3)
    _kill(one, slice(0, 3))
    _through_the_event(one, _x())
    norms = one.parameters["W_dec"].norm(dim=1)
    torch.testing.assert_close(norms[:3], norms[3:].mean().expand(3))


def test_nothing_dead_is_nothing_done():
    x = _x()
    one, other = _learner(x, dead_after=10_000), _learner(x, dead_after=10_000, remedy=None)
    for learner in (one, other):
        _kill(learner, slice(0, 3))
        _through_the_event(learner, x)
    assert all(torch.equal(one.parameters[name], other.parameters[name]) for name in one.parameters)


def test_draws_go_by_the_square_of_the_loss():
    rows = torch.zeros(4, 2)
    loss = torch.tensor([0.0, 1.0, 2.0, 4.0]) * 1e-12
    dead = torch.ones(30_000, dtype=torch.bool)
    latents, chosen = draw(Candidates(rows, rows, loss), dead, torch.Generator().manual_seed(0))
    assert torch.equal(latents, torch.arange(30_000))
    shares = torch.bincount(chosen, minlength=4) / 30_000
    torch.testing.assert_close(shares, torch.tensor([0.0, 1.0, 4.0, 16.0]) / 21, atol=0.01, rtol=0)


def test_draws_do_not_repeat_while_there_are_enough():
    rows, loss = torch.zeros(5, 2), torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0])
    _, chosen = draw(Candidates(rows, rows, loss), torch.tensor([True, False, True, True, True]), torch.Generator())
    assert sorted(chosen.tolist()) == [1, 2, 3, 4]
    nothing, _ = draw(Candidates(rows, rows, loss * 0), torch.ones(3, dtype=torch.bool), torch.Generator())
    assert len(nothing) == 0


def test_the_rate_dips_and_returns():
    remedy = Resampling(at=(0.1, 0.5), recovery=100)
    rates = [remedy.rate(step, 1000) for step in range(1000)]
    assert rates[:101] == [1.0] * 101
    assert rates[101] == pytest.approx(0.1)
    assert rates[151] == pytest.approx(0.55)
    assert rates[201:501] == [1.0] * 300
    assert rates[501] == pytest.approx(0.1)
    assert sorted(rates[101:202]) == rates[101:202]
    assert [step for step in range(1000) if remedy.due(step, 1000)] == [100, 500]


def test_a_resumed_run_resamples_the_same():
    x = _x()
    whole = _learner(x)
    _kill(whole, slice(0, 3))
    for step in range(4):
        whole.step(x, None, step)
    state = {name: value.detach().clone() for name, value in whole.state().items()}
    resumed = DictionaryTrainer.resume(whole.plan, STEPS, state, "cpu")
    for learner in (whole, resumed):
        for step in range(4, STEPS):
            learner.step(x, None, step)
    assert all(torch.equal(resumed.state()[name], value) for name, value in whole.state().items())


@pytest.mark.parametrize("changes", [{"at": (1.0,)}, {"encoder_scale": 0.0}, {"dip": 0.0}, {"recovery": 0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(UsageError):
        replace(REMEDY, **changes)
