"""A trainer: its dictionary computes what training did, steps can be split and resumed, nonsense is refused."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG

from gossamer.errors import NotFiniteError, UsageError
from gossamer.model import Site
from gossamer.sparse import screen
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig
from gossamer.training.dead_latents import Ghost, Resampling
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.gradients import Gradients
from gossamer.training.objectives import (
    L1,
    AuxK,
    BatchTopK,
    Gated,
    Matryoshka,
    NormWeightedL1,
    QuadraticL0,
    StepL0,
    TanhPenalty,
    TopK,
)
from gossamer.training.units import Units

READ, WRITTEN = Site("mlp_in", 0), Site("mlp_out", 0)
FREE = OptimiserConfig(decoder_norm="free")
OBJECTIVES = [
    L1(coefficient=0.3),
    NormWeightedL1(coefficient=0.3),
    Gated(coefficient=0.3),
    StepL0(coefficient=0.3),
    TanhPenalty(coefficient=0.3),
    QuadraticL0(coefficient=0.3, target=5.0),
    TopK(k=5),
    BatchTopK(k=5),
    Matryoshka(k=5, prefixes=(0.25, 1.0)),
]
BY_THRESHOLD = (BatchTopK, Matryoshka)


def _x(tokens=64, d=8, seed=0, dtype=torch.float64):
    return torch.randn(tokens, d, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 3 + 5


def _trainer(x, targets=None, metric=None, steps=100, **changes):
    site_out = None if targets is None else WRITTEN
    plan = DictionarySpec("toy", READ, site_out, replace(CONFIG.trainer, **{"sensitivity": 0.0, **changes}), seed=0)
    return DictionaryTrainer.begin(plan, steps, x, targets, metric)


def _trained(x, targets=None, metric=None, **changes):
    one = _trainer(x, targets, metric, **changes)
    for step in range(6):
        one.step(x, targets, step)
    return one


def _reconstruction(one, x, targets=None):
    """What training reconstructs of a batch, in the model's units."""
    read = one.read.inward(x)
    read = read - one.parameters["b_dec"] if one.config.pre_bias else read
    y = one.written.inward(x if targets is None else targets)
    found = one.config.objective.outcome(one.parameters, read, y, one._moment(one.tokens_since_fired < 0, 6))
    if isinstance(one.config.objective, BY_THRESHOLD):
        # The threshold of this batch, which latents must exceed: then inference picks what the batch did.
        one.threshold = found.smallest * (1 - 1e-9)
    return one.written.outward((y - found.error).detach())


def _assert_exported(one, x, targets=None):
    expected = _reconstruction(one, x, targets)
    exported = one.dictionary("toy", {})
    torch.testing.assert_close(exported(x), expected)
    assert (exported.encode(x).l0 > 0).any()
    return exported


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_dictionary_computes_what_training_does(objective):
    exported = _assert_exported(_trained(_x(), objective=objective), _x())
    assert exported.architecture == objective.architecture
    assert exported.site == READ
    torch.testing.assert_close(exported.W_dec.norm(dim=1), torch.ones(64, dtype=torch.float64))


def test_the_encoder_begins_as_a_multiple_of_the_decoder():
    one = _trainer(_x(), encoder_scale=0.25)
    torch.testing.assert_close(one.parameters["W_enc"], one.parameters["W_dec"].t() / 4)
    torch.testing.assert_close(_trainer(_x()).parameters["W_enc"], one.parameters["W_dec"].t())


@pytest.mark.parametrize(
    "objective", [one for one in OBJECTIVES if not isinstance(one, L1) or isinstance(one, NormWeightedL1)]
)
def test_also_with_free_norms_a_pre_bias_and_other_units(objective):
    settings = {"optimiser": FREE, "initial_norm": 0.4, "pre_bias": True, "scaling": "sqrt_d"}
    _assert_exported(_trained(_x(), objective=objective, **settings), _x())
    _assert_exported(_trained(_x(), objective=objective, scaling="none", pre_bias=True), _x())


@pytest.mark.parametrize("objective", [one for one in OBJECTIVES if type(one) is not TopK])
def test_also_where_errors_are_counted_in_a_metric(objective):
    metric = torch.diag(torch.linspace(0.1, 1.9, 8, dtype=torch.float64))
    one = _trained(_x(), metric=metric, objective=objective, sensitivity=0.9)
    exported = _assert_exported(one, _x())
    assert exported.architecture == ("jumprelu" if isinstance(objective, BY_THRESHOLD) else objective.architecture)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_also_for_a_transcoder(objective):
    x = _x()
    targets = torch.tanh(x - 5) * 2 - 1
    one = _trained(x, targets, objective=objective)
    exported = _assert_exported(one, x, targets)
    assert (exported.site, exported.site_out) == (READ, WRITTEN)
    assert (one.read.mean - x.mean(dim=0)).abs().max() < 1e-12
    assert (one.written.mean - targets.mean(dim=0)).abs().max() < 1e-12


def test_a_transcoder_learns_a_map():
    x = _x(512)
    targets = torch.relu(x - 5) * 4 + 1
    one = _trainer(x, targets, steps=200, objective=TopK(k=6))
    found = [float(one.step(x, targets, step)["explained_variance"]) for step in range(200)]
    assert found[-1] > max(0.8, found[0])
    y = one.dictionary("toy", {})(x)
    assert 1 - (y - targets).square().sum() / (targets - targets.mean(dim=0)).square().sum() > 0.8


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns(objective):
    basis = torch.randn(12, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    draw = torch.rand(512, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x = (draw * (draw > 0.85)) @ basis
    one = _trainer(x, steps=150, objective=objective)
    found = [one.step(x, None, step) for step in range(150)]
    assert float(found[-1]["loss"]) < 0.7 * float(found[1]["loss"])
    assert float(found[-1]["explained_variance"]) > 0.5
    assert float(found[-1]["l0"]) < 32


@pytest.mark.parametrize("strategy", [None, Ghost(all_at_start=True), Resampling(at=(0.3,), recovery=3)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_resumed_trainer_goes_on_to_the_same(objective, strategy):
    x = _x(dtype=torch.float32)
    targets = x.flip(1)
    whole = _trainer(x, targets, steps=10, objective=objective, dead_latents=strategy, dead_after=150)
    for step in range(2):
        whole.step(x, targets, step)
    kept = {name: value.detach().clone() for name, value in whole.state().items()}
    resumed = DictionaryTrainer.resume(whole.plan, 10, kept, "cpu")
    for one in (whole, resumed):
        for step in range(2, 10):
            one.step(x, targets, step)
    assert resumed.state().keys() == whole.state().keys()
    assert all(torch.equal(resumed.state()[name], value) for name, value in whole.state().items())


def test_gradients_change_nothing():
    x = _x()
    one = _trained(x, objective=BatchTopK(k=5))
    before = {name: value.detach().clone() for name, value in one.state().items()}
    first, again = (one.gradients(x, None, 6) for _ in range(2))
    assert all(torch.equal(one.state()[name], value) for name, value in before.items())
    assert all(torch.equal(first.parameters[name], value) for name, value in again.parameters.items())


@pytest.mark.parametrize("objective", [L1(coefficient=0.3), Gated(), StepL0(), TopK(k=5)])
def test_the_gradients_of_parts_join_to_those_of_the_batch(objective):
    x = _x()
    one = _trained(x, objective=objective)
    whole = one.gradients(x, None, 6)
    joined = Gradients.joined([one.gradients(part, None, 6) for part in (x[:16], x[16:])])
    torch.testing.assert_close(joined.parameters, whole.parameters)
    assert torch.equal(joined.fired, whole.fired)
    assert joined.tokens == whole.tokens == 64
    for name in ("loss", "l0", "dead", "auxiliary_loss"):
        torch.testing.assert_close(joined.averaged[name], whole.averaged[name])


def test_what_is_measured():
    x = _x()
    one = _trainer(x, objective=TopK(k=5))
    error = one.written.inward(x) - one.written.inward(_reconstruction(one, x))
    found = one.gradients(x, None, 0).averaged
    y = one.written.inward(x)
    assert float(found["loss"]) == pytest.approx(error.square().mean().item())
    expected = 1 - (error.square().sum() / (y - y.mean(dim=0)).square().sum()).item()
    assert float(found["explained_variance"]) == pytest.approx(expected)
    assert float(found["l0"]) == 5
    assert all(isinstance(value, torch.Tensor) for value in found.values())


def test_dead_latents_get_a_gradient_even_where_they_are_negative_everywhere():
    x = _x()
    one = _trainer(x, dead_after=10)
    with torch.no_grad():
        one.parameters["b_enc"][:20] = -100.0
    before = one.parameters["W_enc"].detach().clone()
    assert float(one.step(x, None, 50)["dead"]) == pytest.approx((one.tokens_since_fired > 10).double().mean().item())
    moved = (one.parameters["W_enc"].detach() - before).norm(dim=0)
    assert (moved[:20] > 0).sum() >= 8

    still = _trainer(x, dead_after=10, objective=BatchTopK(k=6, aux=AuxK(weight=0.0)))
    with torch.no_grad():
        still.parameters["b_enc"][:20] = -100.0
    still.step(x, None, 50)
    assert (still.parameters["W_enc"].detach() - before).norm(dim=0)[:20].max() == 0


def test_ghosts_count_all_latents_as_dead_until_some_can_be():
    x = _x()
    one = _trainer(x, objective=L1(coefficient=0.1), dead_latents=Ghost(all_at_start=True), dead_after=100)
    first, second, third = (one.step(x, None, step) for step in range(3))
    # Two batches of 64 tokens see less than 100 before they begin; the matched loss is then the error's square.
    for found in (first, second):
        assert float(found["dead"]) < 1
        assert float(found["auxiliary_loss"]) > 0
    assert float(third["dead"]) == 0
    assert float(third["auxiliary_loss"]) == 0


def test_idle_counts_tokens():
    x = _x()
    one = _trainer(x, objective=L1(coefficient=0.1))
    with torch.no_grad():
        one.parameters["b_enc"][:3] = -100.0
    for step in range(3):
        one.step(x, None, step)
    assert one.tokens_since_fired[:3].tolist() == [192] * 3
    assert one.seen == 192


def test_errors_are_counted_in_the_metric_given():
    """With all weight on one direction, the loss is the error in that direction alone."""
    x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    metric = torch.zeros(8, 8)
    metric[2, 2] = 8.0
    one = _trainer(x, metric=metric, sensitivity=0.99)
    found = one.read.into @ one.read.into.t()
    torch.testing.assert_close(found / found[2, 2], torch.diag(torch.tensor([0.01, 0.01, 7.93, *[0.01] * 5]) / 7.93))


def test_nan_in_activations_or_targets_is_named():
    x = _x()
    broken = x.clone()
    broken[3, 2] = float("nan")
    with pytest.raises(NotFiniteError, match=r"activations at mlp_in\.0"):
        _trainer(broken)
    with pytest.raises(NotFiniteError, match=r"activations at mlp_in\.0"):
        _trainer(x).step(broken, None, 0)
    with pytest.raises(NotFiniteError, match=r"activations at mlp_out\.0"):
        _trainer(x, x).step(x, broken, 0)


def test_parameters_that_are_not_finite_never_reach_a_checkpoint():
    one = _trainer(_x())
    with torch.no_grad():
        one.parameters["W_dec"][3, 2] = float("inf")
    with pytest.raises(NotFiniteError, match="W_dec of toy"):
        one.state()


def test_constant_activations_are_refused():
    with pytest.raises(UsageError, match=r"activations at mlp_in\.0 are all equal"):
        _trainer(torch.ones(10, 8))
    with pytest.raises(UsageError, match=r"activations at mlp_out\.0 are all equal"):
        _trainer(_x(10), torch.ones(10, 8).double())
    with pytest.raises(UsageError, match=r"activations at mlp_in\.0.*found none"):
        _trainer(torch.ones(0, 8))


def test_targets_belong_to_transcoders():
    x = _x()
    with pytest.raises(UsageError, match="targets belong to a transcoder"):
        _trainer(x).step(x, x, 0)
    with pytest.raises(UsageError, match="targets belong to a transcoder"):
        _trainer(x, x).step(x, None, 0)
    with pytest.raises(UsageError, match="its sites must have one width"):
        DictionaryTrainer.begin(DictionarySpec("toy", READ, WRITTEN, DictionaryTrainerConfig()), 10, x, x[:, :4])


@pytest.mark.parametrize("strategy", [None, Ghost(), Ghost(dead_fraction_scale=True, activation="softplus")])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_step_asks_a_device_for_a_value(objective, strategy):
    """On the meta device there are no values, so that asking for one is an error."""
    nowhere = Units(torch.empty(8, device="meta"), torch.empty(8, 8, device="meta"))
    plan = DictionarySpec("toy", READ, None, DictionaryTrainerConfig(64, objective, strategy, sensitivity=0.0))
    one = DictionaryTrainer(plan, 100, nowhere, nowhere)
    found = one.gradients(torch.empty(32, 8, device="meta"), None, 3)
    assert {name: value.shape for name, value in found.parameters.items()} == {
        name: value.shape for name, value in one.parameters.items()
    }
    with torch.no_grad():
        objective.project(one.parameters)
    if "smallest" in found.averaged:
        assert objective.next_threshold(one.threshold, found.averaged["smallest"].double()).shape == ()


@pytest.mark.parametrize("objective", [TopK(k=5), BatchTopK(k=5), Matryoshka(k=5, prefixes=(0.25, 1.0))])
def test_steps_through_bounds_are_the_steps_without(objective, monkeypatch):
    """As on a CPU that multiplies in bfloat16, at a size where that pays."""
    x = _x(dtype=torch.float32)
    plain = _trained(x, objective=objective)
    monkeypatch.setattr(screen, "_PAYS", 0)
    monkeypatch.setattr(screen, "multiplies_in_bfloat16", lambda: True)
    bounded = _trained(x, objective=objective)
    for name, value in plain.parameters.items():
        torch.testing.assert_close(bounded.parameters[name], value, rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_finite_name_the_dictionary():
    one = _trainer(_x(), objective=TopK(k=5))
    with torch.no_grad():
        one.parameters["W_enc"][2, 3] = torch.nan
    with pytest.raises(NotFiniteError, match=r"dictionary toy at .*: W_enc"):
        one.step(_x(), None, 0)


def test_a_token_of_very_large_numbers_is_no_endless_search():
    x = _x(dtype=torch.float32)
    one = _trainer(x, objective=TopK(k=5))
    x[3] *= 1e25
    with pytest.raises(NotFiniteError):
        one.step(x, None, 0)
