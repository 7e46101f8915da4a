"""Which nodes may leave a circuit and which should come: by how sure their derivatives are."""

import pytest
import torch

from gossamer.circuits.slope import Slope

CIRCUIT = torch.tensor([0, 1, 2, 3, 4])
MEAN = torch.tensor([-0.5, 0.3, 0.0, -0.1, 0.01, 0.2, -0.4, 0.0])


def test_what_matters_least_leaves_first_and_what_hurts_most_after_what_does_nothing() -> None:
    slope = Slope(MEAN, torch.zeros(8))
    assert slope.leaving(CIRCUIT).tolist() == [2, 4, 1, 3, 0]
    assert slope.coming(CIRCUIT).tolist() == [6, 7, 5]
    assert slope.sure(slope.coming(CIRCUIT)) == 1


def test_what_may_matter_leaves_later_and_what_may_hurt_comes_later() -> None:
    slope = Slope(torch.tensor([0.0, 0.01, -0.4, -0.3, -0.2]), torch.tensor([0.05, 0.0, 0.45, 0.05, 0.0]))
    assert slope.leaving(torch.tensor([0, 1])).tolist() == [1, 0]
    # The largest mean is of one group of prompts: it comes last, and nobody is sure of it.
    coming = slope.coming(torch.tensor([0, 1]))
    assert coming.tolist() == [3, 4, 2]
    assert slope.sure(coming) == 2
    assert slope.at_most.tolist() == pytest.approx([0.05, 0.01, 0.05, -0.25, -0.2])


def test_the_error_is_that_of_the_mean_over_groups() -> None:
    torch.manual_seed(0)
    prompts = torch.randn(40, 3, dtype=torch.float64) + torch.tensor([1.0, 0.0, -2.0])
    groups = prompts.split(8)
    slope = Slope.of_groups(torch.stack([group.sum(0) for group in groups]), [8] * 5)
    means = torch.stack([group.mean(0) for group in groups])
    torch.testing.assert_close(slope.mean, prompts.mean(0))
    torch.testing.assert_close(slope.error, means.std(0) / 5**0.5)


def test_a_smaller_last_group_counts_by_its_prompts() -> None:
    torch.manual_seed(0)
    found = [Slope.of_groups(*_grouped(torch.randn(21, 1, dtype=torch.float64), 5)) for _ in range(4000)]
    # Known: the mean of 21 independent values of variance 1 has a standard error of 1 / sqrt(21).
    assert torch.cat([one.mean for one in found]).std().item() == pytest.approx(21**-0.5, rel=0.05)
    assert torch.cat([one.error**2 for one in found]).mean().sqrt().item() == pytest.approx(21**-0.5, rel=0.05)


def _grouped(prompts: torch.Tensor, size: int) -> tuple[torch.Tensor, list[int]]:
    groups = prompts.split(size)
    return torch.stack([group.sum(0) for group in groups]), [len(group) for group in groups]


def test_one_group_says_nothing_of_the_error() -> None:
    slope = Slope.of_groups(torch.tensor([[4.0, -2.0]]), [2])
    assert slope.mean.tolist() == [2.0, -1.0]
    assert slope.error.tolist() == [0.0, 0.0]
