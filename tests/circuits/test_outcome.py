"""Outcomes and intervals by hand, with explicit sums and numpy's quantiles."""

import math

import numpy as np
import pytest
import torch

from gossamer.circuits.outcome import RESAMPLES, FullModel, Outcome, behaviour, divergence, logit_difference, resamples
from gossamer.errors import NotFiniteError
from gossamer.tasks.task import Task


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return 3 * torch.randn(8, 30, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def others() -> torch.Tensor:
    return 3 * torch.randn(8, 30, generator=torch.Generator().manual_seed(1))


def outcome(seed: int, n: int = 40, mean: float = 2.0) -> Outcome:
    generator = torch.Generator().manual_seed(seed)
    difference = mean + torch.randn(n, generator=generator)
    return Outcome(difference, torch.rand(n, generator=generator), difference > 0, torch.zeros(n, dtype=torch.bool))


def test_logit_differences_by_hand() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0], [0.5, -1.0, 3.0]])
    found = logit_difference(logits, torch.tensor([1, 0]), torch.tensor([2, 2]))
    assert found.tolist() == [3.0, -2.5]


def test_divergence_is_the_sum_over_the_vocabulary(logits: torch.Tensor, others: torch.Tensor) -> None:
    found = divergence(logits.log_softmax(dim=-1), others)
    for row in range(len(logits)):
        p, q = (np.exp(values[row].double().numpy()) for values in (logits, others))
        p, q = p / p.sum(), q / q.sum()
        assert found[row].item() == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), rel=1e-4)
    assert divergence(logits.log_softmax(dim=-1), logits).abs().max() < 1e-5
    assert divergence(logits.log_softmax(dim=-1), logits + 7).abs().max() < 1e-5


def test_the_full_model_and_another_network_on_every_prompt(
    task: Task, logits: torch.Tensor, others: torch.Tensor
) -> None:
    logits = logits.clone()
    logits[0, task.test.answer[0]] = 50.0
    logits[1, task.test.wrong[1]] = 50.0
    full = FullModel.measure(lambda rows: logits[rows], task.test, batch_size=3)
    found = full.outcome_of(lambda rows: others[rows], batch_size=5)
    for row, (answer, wrong) in enumerate(zip(task.test.answer.tolist(), task.test.wrong.tolist(), strict=True)):
        for network, values in ((full.outcome, logits), (found, others)):
            difference = (values[row, answer] - values[row, wrong]).item()
            assert network.logit_diff[row].item() == pytest.approx(difference, abs=1e-5)
            assert network.correct[row].item() == (difference > 0)
            assert network.top1[row].item() == (values[row].argmax().item() == answer)
        assert found.kl[row].item() == pytest.approx(divergence(logits.log_softmax(-1), others)[row].item(), rel=1e-5)
    assert (full.outcome.kl == 0).all()
    assert full.outcome.top1[0]
    assert not full.outcome.correct[1]


def test_some_of_the_prompts_only(task: Task, logits: torch.Tensor, others: torch.Tensor) -> None:
    full, rows = FullModel.measure(lambda rows: logits[rows], task.test), torch.tensor([6, 0, 3])
    some = full.on(rows)
    assert len(some.examples) == 3
    assert torch.equal(some.outcome.logit_diff, full.outcome.logit_diff[rows])
    expected = full.outcome_of(lambda chosen: others[chosen])
    found = some.outcome_of(lambda chosen: others[rows][chosen])
    assert torch.equal(found.kl, expected.kl[rows])
    assert torch.equal(found.logit_diff, expected.logit_diff[rows])


def test_logits_that_are_not_finite_are_refused_by_name(task: Task, logits: torch.Tensor) -> None:
    full, broken = FullModel.measure(lambda rows: logits[rows], task.test), logits.clone()
    broken[3, 5] = torch.nan
    with pytest.raises(NotFiniteError, match=r"the model's logits.*nan at index \(3, 5\)"):
        FullModel.measure(lambda rows: broken[rows], task.test)
    with pytest.raises(NotFiniteError, match="the mask of size 7"):
        full.outcome_of(lambda rows: broken[rows], name="the mask of size 7")


def test_behaviour_by_hand() -> None:
    own, full, dictionaries = outcome(0, mean=1.0), outcome(1, mean=3.0), outcome(2, mean=2.0)
    found = behaviour("a circuit", own, full, dictionaries)
    mine, theirs, spliced = (value.logit_diff.double().numpy() for value in (own, full, dictionaries))
    assert found.name == "a circuit"
    assert found.logit_diff.value == pytest.approx(mine.mean())
    assert found.faithfulness.value == pytest.approx(mine.mean() / theirs.mean())
    assert found.faithfulness.value != pytest.approx((mine / theirs).mean(), rel=1e-2)
    assert found.faithfulness_to_dictionaries.value == pytest.approx(mine.mean() / spliced.mean())
    assert found.accuracy == pytest.approx((mine > 0).mean())
    assert found.kl == pytest.approx(own.kl.double().mean().item())
    assert found.prompt_error.value == pytest.approx(abs(mine - theirs).mean() / theirs.mean())
    assert found.prompt_error.value > abs(1 - found.faithfulness.value)


def test_intervals_are_quantiles_over_resampled_prompts() -> None:
    own, full = outcome(0, mean=1.0), outcome(1, mean=3.0)
    draws = resamples(40, seed=5).numpy()
    assert draws.shape == (RESAMPLES, 40)
    mine, theirs = (value.logit_diff.double().numpy() for value in (own, full))
    ratios = [mine[draw].mean() / theirs[draw].mean() for draw in draws]
    found = behaviour("x", own, full, full, seed=5).faithfulness
    assert [found.low, found.high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]).tolist())


@pytest.mark.parametrize("seed", range(4))
def test_intervals_hold_their_value_and_repeat(seed: int) -> None:
    own, full, dictionaries = (outcome(seed + shift, n=25) for shift in (0, 10, 20))
    found = behaviour("x", own, full, dictionaries, seed=seed)
    for interval in (
        found.logit_diff,
        found.faithfulness,
        found.faithfulness_to_dictionaries,
        found.prompt_error,
    ):
        assert interval.low <= interval.value <= interval.high
        assert interval.low < interval.high
    assert behaviour("x", own, full, dictionaries, seed=seed) == found
    assert behaviour("x", own, full, dictionaries, seed=seed + 1) != found


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error() -> None:
    own = outcome(3, n=400)
    found = behaviour("x", own, own, own).logit_diff
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * own.logit_diff.std().item() / math.sqrt(400), rel=0.15)


def test_numerator_and_denominator_are_resampled_together() -> None:
    full = outcome(4)
    half = Outcome(full.logit_diff / 2, full.kl, full.correct, full.top1)
    found = behaviour("x", half, full, full).faithfulness
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
