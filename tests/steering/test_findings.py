"""The published findings: a verdict only where an interval is on one side of 0."""

import torch

from gossamer.steering import SweepNumbers, curves, published_findings
from gossamer.steering.pareto import UNSTEERED


def test_verdicts_of_a_sweep_whose_answers_are_planted():
    """Against the vector's share of .5: one feature is never right, the reconstruction as often on other prompts, the
    obvious features always; nothing was cleaned."""
    methods = (UNSTEERED, "diff_mean", "single_feature", "reconstruction", "obvious_features")
    prompts = torch.arange(40)
    half, other = (prompts % 2).double(), (prompts // 2 % 2).double()
    benefit = torch.stack([0 * half, half, 0 * half, other, 0 * half + 1])[..., None]
    cost = torch.tensor([0.0, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64)[:, None].expand(-1, 30).clone()
    numbers = SweepNumbers(methods, benefit, cost, torch.ones(30, dtype=torch.long))
    found = {one.method: one for one in published_findings(curves(numbers, "diff_mean"))}
    assert {name: one.verdict for name, one in found.items()} == {
        "single_feature": "the opposite",
        "reconstruction": "not shown",
        "obvious_features": "the opposite",
        "cleaned": "no such method",
    }
    assert found["single_feature"].difference.value < 0 < found["obvious_features"].difference.value
    turned = SweepNumbers((UNSTEERED, "single_feature", "diff_mean", "cleaned", "x"), benefit, cost, numbers.tokens)
    again = {one.method: one.verdict for one in published_findings(curves(turned, "diff_mean"))}
    assert again["single_feature"] == "replicates"
    assert again["cleaned"] == "replicates"
