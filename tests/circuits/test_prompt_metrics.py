"""Outcomes and intervals by hand, with explicit sums and numpy's quantiles."""

import math

import numpy as np
import pytest
import torch
from circuit_lab import table

from gossamer.circuits.prompt_metrics import FullModel, PromptMetrics, ability, task_metrics
from gossamer.errors import NotFiniteError, UsageError
from gossamer.tasks.metric import kl_divergence
from gossamer.tasks.task import Task


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return 3 * torch.randn(8, 30, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def others() -> torch.Tensor:
    return 3 * torch.randn(8, 30, generator=torch.Generator().manual_seed(1))


def prompt_metrics(seed: int, n: int = 40, mean: float = 2.0) -> PromptMetrics:
    generator = torch.Generator().manual_seed(seed)
    difference = mean + torch.randn(n, generator=generator)
    kl, answer_kl = torch.rand(2, n, generator=generator)
    return PromptMetrics(difference, kl, answer_kl, difference > 0, torch.zeros(n, dtype=torch.bool))


def full_model(task: Task, own: PromptMetrics, zero: torch.Tensor | None = None) -> FullModel:
    """A full model of which only the outcome is known."""
    nothing = torch.zeros_like(own.metric) if zero is None else zero
    return FullModel(task.test, table(torch.zeros(len(own.metric), 1)), own, nothing)


def weights(n: int, seed: int = 0) -> torch.Tensor:
    """Bootstrap samples of prompts that have nothing in common."""
    drawn = torch.randint(n, (1000, n), generator=torch.Generator().manual_seed(seed))
    return torch.stack([torch.bincount(row, minlength=n) for row in drawn]).double()


def test_divergence_is_the_sum_over_the_vocabulary(logits: torch.Tensor, others: torch.Tensor) -> None:
    found = kl_divergence(logits.log_softmax(dim=-1), others)
    for row in range(len(logits)):
        p, q = (np.exp(values[row].double().numpy()) for values in (logits, others))
        p, q = p / p.sum(), q / q.sum()
        assert found[row].item() == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), rel=1e-4)
    assert kl_divergence(logits.log_softmax(dim=-1), logits).abs().max() < 1e-5
    assert kl_divergence(logits.log_softmax(dim=-1), logits + 7).abs().max() < 1e-5


def test_the_full_model_and_another_network_on_every_prompt(
    task: Task, logits: torch.Tensor, others: torch.Tensor
) -> None:
    logits = logits.clone()
    logits[0, task.test.answer[0]] = 50.0
    logits[1, task.test.incorrect[1]] = 50.0
    full = FullModel.measure(lambda rows: table(logits[rows]), task.test, batch_size=3)
    found = full.prompt_metrics_of(lambda rows: table(others[rows]), batch_size=5)
    for row, (answer, incorrect) in enumerate(
        zip(task.test.answer.tolist(), task.test.incorrect.tolist(), strict=True)
    ):
        for network, values in ((full.prompt_metrics, logits), (found, others)):
            difference = (values[row, answer] - values[row, incorrect]).item()
            assert network.metric[row].item() == pytest.approx(difference, abs=1e-5)
            assert network.correct[row].item() == (difference > 0)
            assert network.top1[row].item() == (values[row].argmax().item() == answer)
        assert found.kl[row].item() == pytest.approx(
            kl_divergence(logits.log_softmax(-1), others)[row].item(), rel=1e-5
        )
    assert (full.prompt_metrics.kl == 0).all()
    assert full.prompt_metrics.top1[0]
    assert not full.prompt_metrics.correct[1]


def test_some_of_the_prompts_only(task: Task, logits: torch.Tensor, others: torch.Tensor) -> None:
    full, rows = FullModel.measure(lambda rows: table(logits[rows]), task.test), torch.tensor([6, 0, 3])
    some = full.select(rows)
    assert len(some.examples) == 3
    assert torch.equal(some.prompt_metrics.metric, full.prompt_metrics.metric[rows])
    expected = full.prompt_metrics_of(lambda chosen: table(others[chosen]))
    found = some.prompt_metrics_of(lambda chosen: table(others[rows][chosen]))
    assert torch.equal(found.kl, expected.kl[rows])
    assert torch.equal(found.metric, expected.metric[rows])


def test_logits_that_are_not_finite_are_refused_by_name(task: Task, logits: torch.Tensor) -> None:
    full, broken = FullModel.measure(lambda rows: table(logits[rows]), task.test), logits.clone()
    broken[3, 5] = torch.nan
    with pytest.raises(NotFiniteError, match=r"the model's logits.*nan at index \(3, 5\)"):
        FullModel.measure(lambda rows: table(broken[rows]), task.test)
    with pytest.raises(NotFiniteError, match="the mask of size 7"):
        full.prompt_metrics_of(lambda rows: table(broken[rows]), name="the mask of size 7")


def test_a_distance_counts_from_the_empty_circuit(task: Task, logits: torch.Tensor, others: torch.Tensor) -> None:
    examples = task.measured_by("kl").test
    nothing = torch.zeros_like(logits)
    full = FullModel.measure(lambda rows: table(logits[rows]), examples, 3, lambda rows: table(nothing[rows]))
    reference = logits.log_softmax(dim=-1)
    circuit, empty = (
        full.prompt_metrics_of(lambda rows: table(others[rows])),
        full.prompt_metrics_of(lambda rows: table(nothing[rows])),
    )
    assert (full.prompt_metrics.metric == 0).all()
    assert torch.equal(full.zero, empty.metric)
    torch.testing.assert_close(circuit.metric, kl_divergence(reference, others))
    torch.testing.assert_close(circuit.metric, circuit.kl)
    expected = 1 - (circuit.metric.double().mean() / empty.metric.double().mean()).item()
    assert full.faithfulness(circuit) == pytest.approx(expected)
    assert (full.faithfulness(full.prompt_metrics), full.faithfulness(empty)) == (1.0, 0.0)
    found = task_metrics("circuit", circuit, full, empty, weights(8))
    assert found.faithfulness.value == pytest.approx(expected)
    assert found.faithfulness.low < expected < found.faithfulness.high
    assert found.prompt_error.value == pytest.approx(1 - expected)
    missed = full.excess(table(others), slice(0, 8))
    assert missed.mean().item() == pytest.approx(expected - 1, rel=1e-5)
    best = logits.gather(1, examples.answer[:, None]) > logits.gather(1, examples.incorrect[:, None])
    assert torch.equal(full.prompt_metrics.correct, best[:, 0])
    with pytest.raises(UsageError, match="KL to the model: faithfulness counts from the empty circuit"):
        FullModel.measure(lambda rows: table(logits[rows]), examples)


def test_what_the_model_can_do(task: Task, logits: torch.Tensor) -> None:
    accuracy, mean = ability(lambda rows: table(logits[rows]), task.test, 3)
    full = FullModel.measure(lambda rows: table(logits[rows]), task.test)
    assert accuracy == full.prompt_metrics.correct.double().mean().item()
    assert mean == pytest.approx(full.prompt_metrics.metric.double().mean().item())
    assert ability(lambda rows: table(logits[rows]), task.measured_by("kl").test, 3) == (accuracy, None)


def test_behaviour_by_hand(task: Task) -> None:
    own, full, dictionaries = prompt_metrics(0, mean=1.0), prompt_metrics(1, mean=3.0), prompt_metrics(2, mean=2.0)
    found = task_metrics("a circuit", own, full_model(task, full), dictionaries, weights(40))
    mine, theirs, spliced = (value.metric.double().numpy() for value in (own, full, dictionaries))
    assert found.name == "a circuit"
    assert found.metric.value == pytest.approx(mine.mean())
    assert found.faithfulness.value == pytest.approx(mine.mean() / theirs.mean())
    assert found.faithfulness.value != pytest.approx((mine / theirs).mean(), rel=1e-2)
    assert found.faithfulness_to_dictionaries.value == pytest.approx(mine.mean() / spliced.mean())
    assert found.accuracy == pytest.approx((mine > 0).mean())
    assert found.kl == pytest.approx(own.kl.double().mean().item())
    assert found.answer_kl == pytest.approx(own.answer_kl.double().mean().item())
    assert found.prompt_error.value == pytest.approx(abs(mine - theirs).mean() / theirs.mean())
    assert found.prompt_error.value > abs(1 - found.faithfulness.value)


def test_intervals_are_quantiles_over_resampled_prompts(task: Task) -> None:
    own, full = prompt_metrics(0, mean=1.0), prompt_metrics(1, mean=3.0)
    draws = np.random.default_rng(5).integers(40, size=(1000, 40))
    counts = torch.tensor(np.stack([np.bincount(draw, minlength=40) for draw in draws])).double()
    mine, theirs = (value.metric.double().numpy() for value in (own, full))
    ratios = [mine[draw].mean() / theirs[draw].mean() for draw in draws]
    found = task_metrics("x", own, full_model(task, full), full, counts)
    expected = np.quantile(ratios, [0.025, 0.975]).tolist()
    assert [found.faithfulness.low, found.faithfulness.high] == pytest.approx(expected)
    means = np.quantile([mine[draw].mean() for draw in draws], [0.025, 0.975]).tolist()
    assert [found.metric.low, found.metric.high] == pytest.approx(means)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_hold_their_value(seed: int, task: Task) -> None:
    own, full, dictionaries = (prompt_metrics(seed + shift, n=25) for shift in (0, 10, 20))
    found = task_metrics("x", own, full_model(task, full), dictionaries, weights(25, seed))
    for interval in (
        found.metric,
        found.faithfulness,
        found.faithfulness_to_dictionaries,
        found.prompt_error,
    ):
        assert interval.low <= interval.value <= interval.high
        assert interval.low < interval.high


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error(task: Task) -> None:
    own = prompt_metrics(3, n=400)
    found = task_metrics("x", own, full_model(task, own), own, weights(400)).metric
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * own.metric.std().item() / math.sqrt(400), rel=0.15)


def test_numerator_and_denominator_are_resampled_together(task: Task) -> None:
    full = prompt_metrics(4)
    half = PromptMetrics(full.metric / 2, full.kl, full.answer_kl, full.correct, full.top1)
    found = task_metrics("x", half, full_model(task, full), full, weights(40)).faithfulness
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
