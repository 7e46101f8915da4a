"""Upper bounds are bounds, and what is asked for exactly is exact."""

import pytest
import torch
from encoders import CASES, LATENTS, TOKENS, case

from gossamer.errors import NotFiniteError, UsageError
from gossamer.sparse import screen
from gossamer.sparse.latents import SparseLatents
from gossamer.sparse.screen import Encoder, Screen


@pytest.mark.parametrize("settings", CASES)
def test_no_pre_activation_is_above_its_bound(way, settings):
    x, W_enc, b_enc = case(**settings)
    exact = (x.double() @ W_enc.double() + b_enc.double()).float()
    found = Screen(x, Encoder(W_enc, b_enc))
    seen = 0
    for chunk in found.chunks():
        wanted = exact[chunk.start : chunk.start + len(chunk.upper)]
        upper = chunk.upper.float()
        above = upper + found.rounding * upper.abs() + 1e-5 * (1 + wanted.abs())
        assert bool((above >= wanted).all())
        seen += len(wanted)
    assert seen == TOKENS


def test_bounds_are_tight_and_their_slack_says_how_tight(way):
    x, W_enc, b_enc = case()
    exact = x @ W_enc + b_enc
    found = Screen(x, Encoder(W_enc, b_enc))
    for chunk in found.chunks():
        gap = chunk.upper - exact[chunk.start : chunk.start + len(chunk.upper)]
        assert gap.max() < 0.1
        assert bool((gap.mean(dim=1) <= chunk.slack + 1e-6).all())


@pytest.mark.parametrize("dense", [False, True])
def test_entries_are_those_of_the_product(way, dense, monkeypatch):
    monkeypatch.setattr(screen, "_DENSE", 10_000 if dense else 0)
    x, W_enc, b_enc = case(loud_latents=20.0)
    exact = x @ W_enc + b_enc
    mask = exact > 1
    flat = mask[5:].reshape(-1).nonzero()[:, 0]
    found = SparseLatents.from_flat(flat, exact[5:].reshape(-1)[flat], TOKENS - 5, LATENTS)
    values = Screen(x, Encoder(W_enc, b_enc)).exact(found, 5).activations
    torch.testing.assert_close(values, exact[5:][mask[5:]])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(way, value):
    x, W_enc, b_enc = case()
    W_enc[3, 7] = value
    with pytest.raises(NotFiniteError, match="W_enc"):
        Screen(x, Encoder(W_enc, b_enc))


def test_autocast_does_not_reach_what_is_exact(way):
    x, W_enc, b_enc = case()
    exact = x @ W_enc + b_enc
    found = SparseLatents.from_flat(torch.arange(TOKENS * LATENTS), exact.reshape(-1), TOKENS, LATENTS)
    with torch.autocast("cpu", torch.bfloat16):
        values = Screen(x, Encoder(W_enc, b_enc)).exact(found).activations
    torch.testing.assert_close(values, exact.reshape(-1))


@pytest.mark.parametrize("side", ["tokens", "latents"])
def test_what_rounding_takes_from_one_side_all_in_one_direction_is_counted(way, side):
    """Every number lies just below the middle of two of bfloat16, and the bias leaves nothing but what was lost."""
    whole, short = torch.ones(16, 24), torch.full((16, 24), 1 + 0.98 * 2**-8)
    x, rows = (short, whole) if side == "tokens" else (whole, short)
    b_enc = torch.full((16,), -24.0)
    exact = x @ rows.t() + b_enc
    assert bool((exact > 0.09).all())
    for chunk in Screen(x, Encoder(rows.t(), b_enc)).chunks():
        upper = chunk.upper.float()
        assert bool((upper * (1 + 2**-8) >= exact[: len(upper)]).all())


@pytest.mark.parametrize("factor", [1e20, 1e30])
@pytest.mark.parametrize("side", [0, 1])
def test_lengths_that_overflow_are_no_bounds(way, side, factor):
    tensors = list(case(bias=0.0))
    tensors[side] *= factor
    x, W_enc, b_enc = tensors
    found = Screen(x, Encoder(W_enc, b_enc))
    assert not found.bounded
    torch.testing.assert_close(next(found.chunks()).upper, (x @ W_enc)[: len(next(found.chunks()).upper)])


def test_no_token_is_refused(way):
    x, W_enc, b_enc = case()
    with pytest.raises(UsageError, match="at least one token"):
        Screen(x[:0], Encoder(W_enc, b_enc))


def test_a_torch_that_does_not_tell_what_the_cpu_can_gives_no_bounds(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not screen.multiplies_in_bfloat16.__wrapped__()
