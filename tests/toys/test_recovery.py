"""Recovery measures by hand."""

import math

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import UsageError
from gossamer.toys import measure_recovery
from gossamer.toys.recovery import compare

AXES = torch.eye(3)
# Which of three features is active in which of six samples.
X = torch.tensor([[1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1], [1, 1, 0]]).float()


def test_a_perfect_dictionary():
    found = compare(2 * AXES, 3 * X, AXES, X)
    torch.testing.assert_close(found.matched_cosine, torch.ones(3).double())
    torch.testing.assert_close(found.correlation, torch.ones(3).double())
    assert found.match.tolist() == [0, 1, 2]
    assert (found.recovered, found.dead, found.duplicate, found.merged, found.split) == (1.0, 0, 0, 0, 0)
    assert found.l0 == found.true_l0 == pytest.approx(7 / 6)


def test_the_assignment_is_the_best_as_a_whole_and_one_to_one():
    # Nearest to both features is latent 0, but each latent is used once: .96 + .6 is less than .8 + 1.
    directions = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    decoder = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    features = torch.ones(2, 2)
    found = compare(decoder, torch.ones(2, 2), directions, features)
    assert found.match.tolist() == [1, 0]
    torch.testing.assert_close(found.matched_cosine, torch.tensor([0.8, 1.0]).double())
    torch.testing.assert_close(found.best_cosine, torch.tensor([0.8, 1.0]).double())
    assert found.recovered == 0.5


def test_dead_latents_take_no_part():
    latents = torch.cat([X[:, :2], torch.zeros(6, 2)], dim=1)
    decoder = torch.cat([AXES, AXES[:1]])
    found = compare(decoder, latents, AXES, X)
    assert found.dead == 2
    assert found.match.tolist() == [0, 1, -1]
    assert found.matched_cosine.tolist() == [1, 1, 0]
    assert found.correlation[2] == 0
    assert (found.duplicate, found.recovered) == (0, pytest.approx(2 / 3))


def test_duplicates_fire_together_and_splits_apart():
    first = X[:, :1]
    halves = torch.cat([first * (torch.arange(6) < 2)[:, None], first * (torch.arange(6) >= 2)[:, None]], dim=1)
    twice = compare(AXES[[0, 0, 1]], torch.cat([first, first, X[:, 1:2]], dim=1), AXES, X)
    assert (twice.duplicate, twice.split) == (1, 0)
    apart = compare(AXES[[0, 0, 1]], torch.cat([halves, X[:, 1:2]], dim=1), AXES, X)
    assert (apart.duplicate, apart.split) == (0, 1)


def test_overlap_of_one_half_is_a_duplicate():
    # Latent 0 fires in two samples, latent 1 in one of them: both / either = 1/2.
    fires = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    found = compare(AXES[[0, 0]], fires, AXES, torch.ones(3, 3))
    assert (found.duplicate, found.split) == (1, 0)


def test_a_latent_for_two_features_is_merged_and_one_between_opposites_is_not():
    both = (AXES[0] + AXES[1]) / math.sqrt(2)
    minus = (AXES[0] - AXES[1]) / math.sqrt(2)
    latents = torch.ones(6, 1)
    assert compare(both[None], latents, AXES, X).merged == 1
    assert compare(minus[None], latents, AXES, X).merged == 0
    three = AXES.sum(dim=0, keepdim=True) / math.sqrt(3)
    assert compare(three, latents, AXES, X).merged == 0
    assert compare(three, latents, AXES, X, threshold=0.8).merged == 1


def test_merging_counts_the_features_own_cosine():
    # 60 degrees apart: their bisector is at cos 30 = .866 from both.
    directions = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    bisector = torch.tensor([[math.sqrt(0.75), 0.5]])
    found = compare(bisector, torch.ones(2, 1), directions, torch.ones(2, 2))
    assert (found.merged, found.recovered) == (1, 0.0)
    assert found.matched_cosine.max().item() == pytest.approx(math.sqrt(0.75))
    near = compare(bisector, torch.ones(2, 1), directions, torch.ones(2, 2), threshold=0.86)
    assert (near.merged, near.recovered) == (0, 0.5)


def test_correlation_is_pearsons():
    features = torch.tensor([[1.0], [2.0], [3.0]])
    latents = torch.tensor([[2.0], [1.0], [3.0]])
    found = compare(torch.ones(1, 1), latents, torch.ones(1, 1), features)
    assert found.correlation.item() == pytest.approx(0.5)


def test_a_dictionary_is_measured_on_its_activations():
    dictionary = Dictionary(DictionaryConfig("relu", 3, 3))
    dictionary.W_enc.data, dictionary.W_dec.data = torch.eye(3), torch.eye(3)
    dictionary.b_enc.data, dictionary.b_dec.data = torch.tensor([0.0, 0.0, -5.0]), torch.zeros(3)
    found = measure_recovery(dictionary, AXES, X, X)
    assert (found.dead, found.l0, found.match.tolist()) == (1, 1.0, [0, 1, -1])


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="a positive length"):
        compare(AXES, X, torch.zeros(3, 3), X)
    with pytest.raises(UsageError, match="threshold"):
        compare(AXES, X, AXES, X, threshold=0.0)
    with pytest.raises(UsageError, match="the same samples"):
        compare(AXES, X[:2], AXES, X)
