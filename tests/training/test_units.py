"""Units of training: what each scaling promises, and the way back."""

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.training.units import Units, metric_root

X = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 + 2


@pytest.mark.parametrize("scaling", ["unit_variance", "sqrt_d", "none"])
@pytest.mark.parametrize("metric", [False, True])
def test_there_and_back(scaling, metric):
    root = metric_root(torch.diag(torch.linspace(0.5, 1.5, 6, dtype=torch.float64)), 0.5) if metric else None
    units = Units.of(X, scaling, root, "x")
    torch.testing.assert_close(units.outward(units.inward(X)), X)
    torch.testing.assert_close(units.directions(units.inward(X[:3]) - units.inward(X[3:6])), X[:3] - X[3:6])


def test_what_each_scaling_promises():
    centred = Units.of(X, "unit_variance", None, "x").inward(X)
    torch.testing.assert_close(centred.mean(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)
    assert float(centred.square().mean()) == pytest.approx(1.0)
    scaled = Units.of(X, "sqrt_d", None, "x").inward(X)
    assert float(scaled.norm(dim=1).mean()) == pytest.approx(6**0.5)
    torch.testing.assert_close(scaled / scaled[0, 0], X / X[0, 0])
    assert torch.equal(Units.of(X, "none", None, "x").inward(X), X)


def test_the_root_is_a_root():
    metric = torch.cov(X.t())
    root = metric_root(metric, 0.75)
    torch.testing.assert_close(root @ root, 0.25 * torch.eye(6, dtype=torch.float64) + 0.75 * metric)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1 / 3])
@pytest.mark.parametrize("scaling", ["unit_variance", "sqrt_d", "none"])
def test_equal_activations_are_refused_though_their_mean_is_rounded(scaling, value):
    row = torch.linspace(value, 3 * value, 5)
    with pytest.raises(UsageError, match="x are all equal"):
        Units.of(row.expand(2000, 5), scaling, None, "x")


@pytest.mark.parametrize(("factor", "found"), [(1e25, "inf"), (1e-30, "0")])
def test_a_variance_that_float32_cannot_hold_is_refused_before_any_training(factor, found):
    first = factor * torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match=f"x: expected a deviation that float32 holds, found {found}; scale"):
        Units.of(first, "unit_variance", None, "x")
