"""Ghost gradients: the invariants of the method, variant by variant."""

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.training.dead_latents import Ghost

TOKENS, D, N = 20, 6, 12
DEAD = torch.arange(N) < 5


def _draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def p():
    found = {"W_enc": _draw(D, N), "W_dec": _draw(N, D, seed=1), "b_enc": _draw(N, seed=2)}
    return {name: value.requires_grad_() for name, value in found.items()}


X, ERROR = _draw(TOKENS, D, seed=3), _draw(TOKENS, D, seed=4)
MSE = ERROR.square().sum(dim=1).mean() / D


def _pre(p, shift=0.0):
    return X @ p["W_enc"] + p["b_enc"] + shift


def _loss(ghost, p, error=ERROR, dead=DEAD):
    return ghost.loss(p, "b_enc", X, error, dead)


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_what_the_dead_write_is_half_as_long_as_the_error(p, activation):
    written, _ = Ghost(activation=activation).written(_pre(p), p["W_dec"], ERROR, DEAD)
    torch.testing.assert_close(written.norm(dim=1), ERROR.norm(dim=1) / 2)


@pytest.mark.parametrize("norm_match", [True, False])
@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_with_the_loss_matched_its_value_is_the_mse(p, norm_match, activation):
    torch.testing.assert_close(_loss(Ghost(norm_match=norm_match, activation=activation), p), MSE)


def test_each_token_is_matched_by_itself(p):
    """Half of the tokens with their own error give half of the sum: no factor is shared by the batch."""
    ghost = Ghost()
    halves = [ghost.of(_pre(p)[part], p["W_dec"], ERROR[part], DEAD) for part in (slice(0, 10), slice(10, 20))]
    torch.testing.assert_close(sum(halves) / 2, ghost.of(_pre(p), p["W_dec"], ERROR, DEAD))
    gradients = torch.autograd.grad(sum(halves) / 2, [p["W_enc"], p["W_dec"]])
    torch.testing.assert_close(gradients, torch.autograd.grad(_loss(ghost, p), [p["W_enc"], p["W_dec"]]))


def test_a_common_factor_of_all_ghosts_changes_nothing(p):
    ghost = Ghost()
    first, other = (ghost.written(_pre(p, shift), p["W_dec"], ERROR, DEAD)[0] for shift in (0.0, 7.0))
    torch.testing.assert_close(first, other)


def test_without_matching_it_is_the_plain_distance(p):
    found = _loss(Ghost(norm_match=False, loss_match=False), p)
    written = _pre(p)[:, DEAD].exp() @ p["W_dec"][DEAD]
    torch.testing.assert_close(found, (written - ERROR).square().mean())
    soft = _loss(Ghost(norm_match=False, loss_match=False, activation="softplus"), p)
    written = (1 + _pre(p)[:, DEAD].exp()).log() @ p["W_dec"][DEAD]
    torch.testing.assert_close(soft, (written - ERROR).square().mean())


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_gradients_are_slopes_with_every_factor_held_fixed(p, activation):
    """An independent writing of the equations, whose factors are frozen at the present parameters."""

    def positive(pre):
        return pre.exp() if activation == "exp" else (1 + pre.exp()).log()

    def raw(q):
        return positive(X @ q["W_enc"] + q["b_enc"])[:, DEAD] @ q["W_dec"][DEAD]

    now = raw({name: value.detach() for name, value in p.items()})
    length = ERROR.norm(dim=1, keepdim=True) / (2 * now.norm(dim=1, keepdim=True))
    weight = ERROR.square().sum(dim=1) / (now * length - ERROR).square().sum(dim=1)

    def written(q):
        return (weight * (raw(q) * length - ERROR).square().sum(dim=1)).mean() / D

    found = dict(zip(p, torch.autograd.grad(_loss(Ghost(activation=activation), p), list(p.values())), strict=True))
    for name, value in p.items():
        direction = _draw(*value.shape, seed=9)
        ends = [written({**p, name: value.detach() + sign * 1e-6 * direction}).item() for sign in (1, -1)]
        assert float((found[name] * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize(
    "ghost", [Ghost(), Ghost(norm_match=False), Ghost(loss_match=False), Ghost(activation="softplus")]
)
def test_live_latents_and_the_error_get_no_gradient(p, ghost):
    error = ERROR.clone().requires_grad_()
    wanted = [p["W_enc"], p["W_dec"], p["b_enc"], error]
    found = torch.autograd.grad(_loss(ghost, p, error), wanted, allow_unused=True)
    assert found[0][:, ~DEAD].abs().max() == 0
    assert found[1][~DEAD].abs().max() == 0
    assert found[2][~DEAD].abs().max() == 0
    assert found[3] is None
    assert found[0][:, DEAD].norm(dim=0).min() > 0
    assert found[1][DEAD].norm(dim=1).min() > 0


@pytest.mark.parametrize("bias", [-20.0, -100.0])
@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_latents_far_below_zero_still_learn_in_single_precision(p, activation, bias):
    with torch.no_grad():
        p["b_enc"][:5] = torch.arange(5) * 0.5 + bias
    single = {name: value.detach().float().requires_grad_() for name, value in p.items()}
    ghost = Ghost(activation=activation)
    (exact,) = torch.autograd.grad(_loss(ghost, p), p["W_enc"])
    (found,) = torch.autograd.grad(ghost.loss(single, "b_enc", X.float(), ERROR.float(), DEAD), single["W_enc"])
    assert found[:, DEAD].norm(dim=0).min() > 1e-6
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_far_above_zero_single_precision_follows_double_without_the_norm_match(p, activation):
    with torch.no_grad():
        p["b_enc"][:5] = torch.arange(5) * 0.5 + 100.0
    single = {name: value.detach().float().requires_grad_() for name, value in p.items()}
    ghost = Ghost(norm_match=False, activation=activation)
    loss = ghost.loss(single, "b_enc", X.float(), ERROR.float(), DEAD)
    torch.testing.assert_close(loss.double(), MSE, rtol=1e-4, atol=0)
    exact = torch.autograd.grad(_loss(ghost, p), [p["W_enc"], p["W_dec"]])
    found = torch.autograd.grad(loss, [single["W_enc"], single["W_dec"]])
    assert exact[0][:, DEAD].norm(dim=0).min() > 1e-6
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-5)


def test_the_share_of_the_dead_scales_the_term(p):
    torch.testing.assert_close(_loss(Ghost(dead_fraction_scale=True), p), MSE * 5 / N)


@pytest.mark.parametrize("ghost", [Ghost(), Ghost(dead_fraction_scale=True), Ghost(norm_match=False, loss_match=False)])
@pytest.mark.parametrize("compact", [True, False])
def test_nothing_dead_is_0_and_no_nan(p, ghost, compact):
    nobody = torch.zeros(N, dtype=torch.bool)
    if compact:
        assert _loss(ghost, p, dead=nobody) == 0
        return
    # What a device computes, which does not know that nobody is dead.
    found = ghost.of(_pre(p), p["W_dec"], ERROR, nobody)
    gradients = torch.autograd.grad(found, [p["W_enc"], p["W_dec"]])
    assert torch.isfinite(found)
    assert all(gradient.abs().max() == 0 for gradient in gradients)


def test_the_masked_form_is_the_compact_one(p):
    compact = _loss(Ghost(), p)
    masked = Ghost().of(_pre(p), p["W_dec"], ERROR, DEAD)
    torch.testing.assert_close(compact, masked)
    torch.testing.assert_close(*(torch.autograd.grad(one, list(p.values())) for one in (compact, masked)))


def test_extreme_values_stay_finite(p):
    with torch.no_grad():
        p["b_enc"][0] = 2000.0
    error = ERROR.clone()
    error[0] = 0
    found = _loss(Ghost(), p, error)
    gradients = torch.autograd.grad(found, list(p.values()))
    assert torch.isfinite(found)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_an_unknown_activation_is_refused():
    with pytest.raises(UsageError, match="activation of ghost"):
        Ghost(activation="relu")
