"""The finite check names place, value and count."""

import pytest
import torch

from gossamer.errors import NotFiniteError
from gossamer.finite import require_finite


def test_finite_values_pass_unchanged():
    x = torch.randn(3, 4)
    assert require_finite(x, "here") is x


def test_the_first_bad_entry_is_named():
    x = torch.zeros(2, 3)
    x[1, 0], x[1, 2] = torch.nan, torch.inf
    with pytest.raises(NotFiniteError, match=r"resid_post.2: .*found nan at index \(1, 0\) \(2 of 6 entries\)"):
        require_finite(x, "resid_post.2")


def test_large_finite_values_are_finite():
    x = torch.full((4,), 3e38)
    assert require_finite(x, "here") is x


def test_opposite_infinities_do_not_cancel():
    with pytest.raises(NotFiniteError):
        require_finite(torch.tensor([torch.inf, -torch.inf]), "here")
