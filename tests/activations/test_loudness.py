"""A few tokens that carry the variance are noticed; ordinary ones are not."""

import warnings

import pytest
import torch

from gossamer.activations import LoudTokensWarning, carried_by_loudest
from gossamer.activations.loudness import warn_of_loud_tokens


def test_the_share_is_that_of_the_loudest_hundredth():
    deviations = torch.ones(300)
    deviations[[5, 80, 200]] = torch.tensor([100.0, 200.0, 303.0])
    assert carried_by_loudest(deviations) == pytest.approx(603 / 900)
    # Of few tokens it is the loudest one.
    assert carried_by_loudest(torch.tensor([3.0, 1.0])) == 0.75
    assert carried_by_loudest(torch.zeros(5)) == 0.0


def test_the_warning_says_what_to_do():
    deviations = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)).square().sum(dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_loud_tokens(deviations, "resid_post.3")
    deviations[7] = 1e6
    with pytest.warns(LoudTokensWarning, match=r"resid_post\.3: the loudest hundredth .* 9\d% .*--leave-out-louder"):
        warn_of_loud_tokens(deviations, "resid_post.3")
