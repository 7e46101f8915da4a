"""The estimate's gradients are those of a rectangle, worked out entry by entry."""

import pytest
import torch

from gossamer.training.objectives.straight_through import jumprelu, step

# One of them, (0, 1), is exactly at its threshold: it is not active.
PRE = torch.tensor([[0.20, 0.50, 0.52], [0.90, 0.51, -0.30]], dtype=torch.float64)
THRESHOLD = torch.tensor([0.5, 0.5, 0.55], dtype=torch.float64)
WEIGHTS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
BANDWIDTH = 0.1
# Entries within half a bandwidth of their threshold: (0, 1), (0, 2), (1, 1).
PULSE = torch.tensor([[0.0, 2.0, 3.0], [0.0, 5.0, 0.0]], dtype=torch.float64) / BANDWIDTH


def _both(function, through_encoder):
    pre, threshold = PRE.clone().requires_grad_(), THRESHOLD.clone().requires_grad_()
    out = function(pre, threshold, BANDWIDTH, through_encoder=through_encoder)
    return out, *torch.autograd.grad((out * WEIGHTS).sum(), [pre, threshold])


@pytest.mark.parametrize("through_encoder", [False, True])
def test_step(through_encoder):
    out, d_pre, d_threshold = _both(step, through_encoder)
    assert torch.equal(out, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(d_threshold, -PULSE.sum(dim=0))
    torch.testing.assert_close(d_pre, PULSE if through_encoder else torch.zeros_like(PULSE))


@pytest.mark.parametrize("through_encoder", [False, True])
def test_jumprelu(through_encoder):
    out, d_pre, d_threshold = _both(jumprelu, through_encoder)
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.51, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(d_threshold, -(PULSE * THRESHOLD).sum(dim=0))
    smooth = torch.tensor([[0.0, 0.0, 0.0], [4.0, 5.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(d_pre, smooth + PULSE * THRESHOLD if through_encoder else smooth)


def test_the_estimate_is_right_on_average():
    """Where pre-activations are spread evenly, the estimate is the slope of the expected number of active latents."""
    pre = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None]
    threshold = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(step(pre, threshold, 0.2, through_encoder=False).mean(), threshold)
    assert float(found) == pytest.approx(-1.0, rel=1e-3)
