"""A small batch and parameters in float64, moments, and derivatives by finite differences."""

import torch

from gossamer.training.objectives import StepContext

TOKENS, D, N = 30, 5, 16


def parameters(objective, n=N, d=D, seed=0):
    """Random parameters of an objective; decoder rows of all norms; thresholds positive."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    p = {"W_enc": draw(d, n) * 0.6, "W_dec": draw(n, d) * 0.6, "b_dec": draw(d) * 0.3}
    p |= {name: draw(n) * 0.3 for name in objective.vectors}
    if "threshold" in p:
        p["threshold"] = p["threshold"].abs() + 0.1
    return {name: value.requires_grad_() for name, value in p.items()}


def batch(tokens=TOKENS, d=D, seed=1):
    """Inputs and other targets."""
    draw = torch.randn(2, tokens, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draw[0], draw[1]


def context(share=1.0, dead_unless_fired=None, n=N):
    """Some step; by default no latent is near death."""
    return StepContext(share, torch.zeros(n, dtype=torch.bool) if dead_unless_fired is None else dead_unless_fired)


def total(objective, p, x, y, at):
    """Everything that is descended."""
    found = objective.outcome(p, x, y, at)
    return found.loss if found.auxiliary_loss is None else found.loss + found.auxiliary_loss


def gradients(value, p):
    """By name; None where the value does not depend on a parameter."""
    found = torch.autograd.grad(value, list(p.values()), allow_unused=True)
    return dict(zip(p, found, strict=True))


def slope(function, p, name, seed=2, step=1e-6):
    """A random direction in one parameter, and the central difference of `function` along it."""
    direction = torch.randn(p[name].shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends = [function({**p, name: (p[name] + sign * step * direction).detach()}) for sign in (1, -1)]
    return direction, (ends[0] - ends[1]).item() / (2 * step)


def assert_slopes(objective, p, x, y, at, names, function=None):
    """Autograd's gradients equal finite differences along random directions."""
    function = function or (lambda q: total(objective, q, x, y, at))
    found = gradients(total(objective, p, x, y, at), p)
    for name in names:
        direction, expected = slope(function, p, name)
        torch.testing.assert_close(float((found[name] * direction).sum()), expected, rtol=1e-5, atol=1e-8)
        assert found[name].abs().max() > 0
