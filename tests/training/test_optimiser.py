"""Adam on a dictionary: what happens to the decoder's rows, and which moments are forgotten."""

import pytest
import torch

from gossamer.training.optimiser import Optimiser


def _parameters():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 4, generator=generator)
    rows /= rows.norm(dim=1, keepdim=True)
    values = {"W_enc": rows.t().clone(), "W_dec": rows, "b_enc": torch.zeros(6), "b_dec": torch.zeros(4)}
    return {name: value.requires_grad_() for name, value in values.items()}


def _gradients(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=generator) for name, value in _parameters().items()}


@pytest.mark.parametrize(
    ("decoder_norm", "low", "high"), [("unit", 1 - 1e-6, 1 + 1e-6), ("at_most_one", 0.0, 1 + 1e-6), ("free", 0.0, 9.0)]
)
def test_decoder_norms(decoder_norm, low, high):
    p = _parameters()
    one = Optimiser(p, clip=1.0, decoder_norm=decoder_norm)
    for step in range(5):
        one.step(_gradients(step), 0.1)
    norms = p["W_dec"].detach().norm(dim=1)
    assert norms.min() >= low
    assert norms.max() <= high
    if decoder_norm != "unit":
        assert norms.min() < 0.99
    if decoder_norm == "free":
        assert norms.max() > 1.01


def test_the_part_along_the_rows_moves_nothing_and_fills_no_moment():
    p, across = _parameters(), _parameters()
    lengths = torch.arange(1.0, 7.0)[:, None]
    with torch.no_grad():
        for one in (p, across):
            one["W_dec"] *= lengths
    found, expected = (Optimiser(one, clip=1e9) for one in (p, across))
    for step in range(3):
        gradients, same = _gradients(step), _gradients(step)
        rows = p["W_dec"].detach()
        along = (same["W_dec"] * rows).sum(dim=1, keepdim=True) / lengths**2
        same["W_dec"] -= along * rows
        gradients["W_dec"] += 3 * rows
        found.step(gradients, 0.1)
        expected.step(same, 0.1)
    for name, value in expected.state().items():
        torch.testing.assert_close(found.state()[name], value, atol=1e-5, rtol=1e-4)


def test_without_a_bound_it_is_adam_with_the_betas_given():
    ours, theirs = _parameters(), _parameters()
    one = Optimiser(ours, clip=1e9, betas=(0.0, 0.9), decoder_norm="free")
    adam = torch.optim.Adam(list(theirs.values()), lr=0.02, betas=(0.0, 0.9))
    for step in range(4):
        one.step(_gradients(step), 0.02)
        for name, gradient in _gradients(step).items():
            theirs[name].grad = gradient
        adam.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])


def test_forgetting_a_latent_leaves_the_others_their_moments():
    one = Optimiser(_parameters(), clip=1.0)
    one.step(_gradients(0), 0.1)
    before = {name: value.clone() for name, value in one.state().items() if ".exp_avg" in name}
    one.forget(torch.tensor([1, 4]))
    for name, value in one.state().items():
        if ".exp_avg" in name:
            expected = before[name]
            if not name.startswith("b_dec"):
                (expected.t() if name.startswith("W_enc") else expected)[[1, 4]] = 0
            assert torch.equal(value, expected)
            assert value.abs().max() > 0
