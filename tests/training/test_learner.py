"""A learner: its dictionary computes what training did, dead latents learn, nonsense is refused."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG

from gossamer.model import Site
from gossamer.training.config import Plan
from gossamer.training.learner import Learner
from gossamer.training.objectives import AuxK, BatchTopK

SITE = Site("resid_post", 0)


def _x(tokens=64, d=8, seed=0):
    return torch.randn(tokens, d, generator=torch.Generator().manual_seed(seed))


def _learner(x, metric=None, steps=100, **changes):
    plan = Plan("toy", SITE, None, replace(CONFIG.learner, **{"sensitivity": 0.0, **changes}), seed=0)
    return Learner.begin(plan, steps, x, None, metric)


def test_dead_latents_get_a_gradient_even_where_they_are_negative_everywhere():
    x = _x()
    one = _learner(x, dead_after=10)
    with torch.no_grad():
        one.parameters["b_enc"][:20] = -100.0
    before = one.parameters["W_enc"].detach().clone()
    assert one.step(x, None, 50)["dead"] == pytest.approx((one.idle > 10).float().mean().item())
    moved = (one.parameters["W_enc"].detach() - before).norm(dim=0)
    assert (moved[:20] > 0).sum() >= 8

    still = _learner(x, dead_after=10, objective=BatchTopK(k=6, aux=AuxK(weight=0.0)))
    with torch.no_grad():
        still.parameters["b_enc"][:20] = -100.0
    still.step(x, None, 50)
    assert (still.parameters["W_enc"].detach() - before).norm(dim=0)[:20].max() == 0


@pytest.mark.parametrize("sensitivity", [0.0, 0.9])
def test_folding_changes_no_reconstruction(sensitivity):
    x = _x() * 3 + 5
    metric = torch.diag(torch.linspace(0.1, 1.9, 8)) if sensitivity else None
    one = _learner(x, metric, sensitivity=sensitivity)
    for step in range(5):
        one.step(x, None, step)
    inner = one.read.inward(x)
    p = one.parameters
    pre = inner @ p["W_enc"] + p["b_enc"]
    reconstructed = (pre * (pre > one.threshold)) @ p["W_dec"] + p["b_dec"]
    expected = one.written.outward(reconstructed.detach())
    torch.testing.assert_close(one.dictionary("toy", {})(x), expected, rtol=1e-4, atol=1e-4)


def test_errors_are_counted_in_the_metric_given():
    """With all weight on one direction, the loss is the error in that direction alone."""
    metric = torch.zeros(8, 8)
    metric[2, 2] = 8.0
    one = _learner(_x(512), metric, sensitivity=0.99)
    found = one.read.into @ one.read.into.t()
    torch.testing.assert_close(found / found[2, 2], torch.diag(torch.tensor([0.01, 0.01, 7.93, *[0.01] * 5]) / 7.93))
