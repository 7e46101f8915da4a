"""Resampling: when, from what, and what is left of the latents that were there."""

from dataclasses import replace

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, FitConfig, OptimiserConfig
from gossamer.training.dead_latents import Resampling
from gossamer.training.dead_latents.resampling import InputDraw
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.fit import fit_tensors
from gossamer.training.objectives import L1, Gated, NormWeightedL1, StepL0, TopK

STRATEGY = Resampling(at=(0.5,), recovery=4)
STEPS = 10


def _trainer(x, targets=None, **changes):
    settings = {"dead_latents": STRATEGY, "sensitivity": 0.0, "dead_after": 100, "objective": L1(coefficient=0.1)}
    config = DictionaryTrainerConfig(**{"n_latents": 16, **settings, **changes})
    plan = DictionarySpec("toy", Site("mlp_in", 0), None if targets is None else Site("mlp_out", 0), config)
    return DictionaryTrainer.begin(plan, STEPS, x, targets)


def _x(seed=0):
    return torch.randn(64, 8, generator=torch.Generator().manual_seed(seed))


def _kill(trainer, latents):
    bias = next(iter(trainer.config.objective.vectors))
    with torch.no_grad():
        trainer.parameters[bias][latents] = -100.0


def _step(trainer, x, targets, step):
    trainer.step(x, targets, step)
    draw = trainer.restart_draw(step)
    if draw is not None:
        trainer.offer(draw, x, targets, step)
        trainer.restart(draw)


def _through_the_event(trainer, x, targets=None):
    for step in range(6):
        _step(trainer, x, targets, step)


@pytest.mark.parametrize("objective", [L1(coefficient=0.1), Gated(coefficient=0.1), StepL0(coefficient=0.1)])
def test_dead_latents_start_anew(objective):
    x = _x()
    one, still = _trainer(x, objective=objective), _trainer(x, objective=objective, dead_latents=None)
    for trainer in (one, still):
        _kill(trainer, slice(0, 3))
        _through_the_event(trainer, x)
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
    one = _trainer(x)
    _kill(one, slice(0, 3))
    _through_the_event(one, x)
    expected = one.read.inward(x) - one.parameters["b_dec"].detach()
    directions = expected / expected.norm(dim=1, keepdim=True)
    overlap = one.parameters["W_dec"][:3].detach() @ directions.t()
    torch.testing.assert_close(overlap.max(dim=1).values, torch.ones(3))
    torch.testing.assert_close(
        torch.nn.functional.cosine_similarity(one.parameters["W_enc"][:, :3].t(), one.parameters["W_dec"][:3]),
        torch.ones(3),
    )


def test_a_transcoders_new_latent_reads_the_input_and_writes_the_target():
    x, y = _x(), _x(1)
    one = _trainer(x, y)
    _kill(one, slice(0, 1))
    _through_the_event(one, x, y)
    read = torch.nn.functional.cosine_similarity(one.read.inward(x), one.parameters["W_enc"][:, 0][None])
    assert float(read.detach().max()) == pytest.approx(1.0, abs=1e-5)
    centred = one.written.inward(y) - one.parameters["b_dec"].detach()
    written = torch.nn.functional.cosine_similarity(centred, one.parameters["W_dec"][:1])
    assert float(written.detach().max()) == pytest.approx(1.0, abs=1e-5)
    assert written.argmax() == read.argmax()


def test_with_free_norms_a_newcomer_has_the_norm_of_the_living():
    free = OptimiserConfig(decoder_norm="free")
    one = _trainer(_x(), objective=NormWeightedL1(coefficient=0.1), optimiser=free, initial_norm=0.3)
    _kill(one, slice(0, 3))
    _through_the_event(one, _x())
    norms = one.parameters["W_dec"].norm(dim=1)
    torch.testing.assert_close(norms[:3], norms[3:].mean().expand(3))


def test_nothing_dead_is_nothing_done():
    x = _x()
    one, other = _trainer(x, dead_after=10_000), _trainer(x, dead_after=10_000, dead_latents=None)
    for trainer in (one, other):
        _kill(trainer, slice(0, 3))
        _through_the_event(trainer, x)
    assert all(torch.equal(one.parameters[name], other.parameters[name]) for name in one.parameters)


def _drawn(wanted, rows, loss, seed=0, blocks=1):
    draw = InputDraw(wanted, len(rows), torch.Generator().manual_seed(seed))
    for part in zip(rows.chunk(blocks), loss.chunk(blocks), strict=True):
        draw.add(part[0], part[0], part[1])
    assert len(draw.keys) == len(draw.x) == len(draw.y) <= wanted
    return draw.x[:, 0].tolist()


@pytest.mark.parametrize("blocks", [1, 2])
def test_draws_go_by_the_square_of_the_loss(blocks):
    rows, loss = torch.arange(4.0)[:, None], torch.tensor([0.0, 1.0, 2.0, 4.0]) * 1e-12
    first = torch.tensor([_drawn(1, rows, loss, seed, blocks)[0] for seed in range(2000)]).long()
    shares = torch.bincount(first, minlength=4) / 2000
    torch.testing.assert_close(shares, torch.tensor([0.0, 1.0, 4.0, 16.0]) / 21, atol=0.035, rtol=0)


def test_no_input_is_drawn_twice_and_none_without_loss():
    rows, loss = torch.tensor([0.0, 1.0, 2.0, 3.0, 3.0, 1.0, 3.0])[:, None], torch.tensor([0.0, 1, 2, 3, 9, 1, 5])
    for blocks in (1, 3):
        assert sorted(_drawn(7, rows, loss, blocks=blocks)) == [1.0, 2.0, 3.0]
        assert len(set(_drawn(2, rows, loss, blocks=blocks))) == 2
    assert _drawn(7, rows, loss * 0) == []


def test_equal_inputs_are_drawn_by_their_loss_together():
    rows, loss = torch.tensor([1.0, 2.0, 2.0, 2.0])[:, None], torch.ones(4)
    share = sum(_drawn(1, rows, loss, seed)[0] == 2.0 for seed in range(2000)) / 2000
    assert share == pytest.approx(0.75, abs=0.035)


def test_dead_latents_that_outnumber_a_batch_get_an_input_each_from_a_sample_of_its_own(tmp_path):
    """Two latents that start from one input never separate."""
    x = torch.randn(96, 8, generator=torch.Generator().manual_seed(0)).repeat(3, 1)
    # In a batch of 16 no more than 16 latents fire, and nothing moves but what is restarted.
    settings = {"objective": TopK(k=1), "dead_after": 1, "optimiser": OptimiserConfig(learning_rate=1e-12)}
    config = DictionaryTrainerConfig(128, dead_latents=Resampling(at=(0.5,)), sensitivity=0.0, **settings)
    plan = DictionarySpec("toy", Site("mlp_in", 0), None, config)
    loop = FitConfig(tokens=8 * 320, batch=16, buffer=16)
    rows = fit_tensors({plan.site: x}, [plan], loop, tmp_path)["toy"].W_dec
    before = DictionaryTrainer.begin(plan, 1, x).parameters["W_dec"].detach()
    # As many as there are different inputs; the rest stay dead.
    assert int(((rows - before).abs().amax(dim=1) > 1e-3).sum()) == 96
    assert int((torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(rows).t() > 0.9999).sum()) == 128


def test_the_rate_dips_and_returns():
    strategy = Resampling(at=(0.1, 0.5), recovery=100)
    rates = [strategy.rate(step, 1000) for step in range(1000)]
    assert rates[:101] == [1.0] * 101
    assert rates[101] == pytest.approx(0.1)
    assert rates[151] == pytest.approx(0.55)
    assert rates[201:501] == [1.0] * 300
    assert rates[501] == pytest.approx(0.1)
    assert sorted(rates[101:202]) == rates[101:202]
    assert [step for step in range(1000) if strategy.due(step, 1000)] == [100, 500]


def test_a_resumed_run_resamples_the_same():
    x = _x()
    whole = _trainer(x)
    _kill(whole, slice(0, 3))
    for step in range(4):
        _step(whole, x, None, step)
    state = {name: value.detach().clone() for name, value in whole.state().items()}
    resumed = DictionaryTrainer.resume(whole.plan, STEPS, state, "cpu")
    for trainer in (whole, resumed):
        for step in range(4, STEPS):
            _step(trainer, x, None, step)
    assert all(torch.equal(resumed.state()[name], value) for name, value in whole.state().items())


@pytest.mark.parametrize(
    "changes", [{"at": (1.0,)}, {"sample": 0}, {"encoder_scale": 0.0}, {"dip": 0.0}, {"recovery": 0}]
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(UsageError):
        replace(STRATEGY, **changes)
