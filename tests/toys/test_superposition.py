"""Toy models of superposition: the samples' statistics, and geometry that the paper derives."""

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.toys import FeatureGroup, SuperpositionConfig, SuperpositionModel, train_superposition
from gossamer.toys.superposition import sample_features

N = 40_000


def samples(**options):
    config = SuperpositionConfig(6, 2, probability=0.2, **options)
    return sample_features(config, N, torch.Generator().manual_seed(0))


def test_features_are_active_with_their_probability_and_uniform_then():
    x = samples()
    active = x > 0
    torch.testing.assert_close(active.float().mean(dim=0), torch.full((6,), 0.2), atol=0.01, rtol=0)
    assert x.max() < 1
    assert x[active].mean().item() == pytest.approx(0.5, abs=0.01)
    together = (active[:, 0] & active[:, 1]).float().mean().item()
    assert together == pytest.approx(0.04, abs=0.005)


def test_groups_come_together_or_exclude_each_other_at_the_same_probability():
    groups = (FeatureGroup((0, 2), "correlated"), FeatureGroup((1, 3, 5), "anticorrelated"))
    active = samples(groups=groups) > 0
    torch.testing.assert_close(active.float().mean(dim=0), torch.full((6,), 0.2), atol=0.01, rtol=0)
    assert torch.equal(active[:, 0], active[:, 2])
    assert active[:, [1, 3, 5]].sum(dim=1).max() == 1


def test_values_by_hand():
    config = SuperpositionConfig(3, 2)
    w = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    model = SuperpositionModel(config, w, torch.tensor([0.0, 0.5, 0.0]), 0.0)
    x = torch.tensor([[0.5, 0.25, 1.0]])
    torch.testing.assert_close(model.hidden(x), torch.tensor([[0.25, 0.0]]))
    torch.testing.assert_close(model.reconstruct(x), torch.tensor([[0.25, 0.25, 0.0]]))
    torch.testing.assert_close(model.dimensionality, torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(model.directions[1], torch.tensor([-1.0, 0.0]))


def test_importance_decays():
    config = SuperpositionConfig(3, 1, importance_decay=0.5)
    torch.testing.assert_close(config.importance, torch.tensor([1.0, 0.5, 0.25]))


def test_five_sparse_features_in_two_dimensions_make_a_pentagon():
    model = train_superposition(SuperpositionConfig(5, 2, probability=0.05), steps=1500)
    torch.testing.assert_close(model.dimensionality, torch.full((5,), 0.4), atol=0.01, rtol=0)
    angles = torch.atan2(model.W[1], model.W[0]).sort().values
    torch.testing.assert_close(angles.diff(), torch.full((4,), 2 * torch.pi / 5), atol=0.05, rtol=0)


def test_dense_features_are_not_in_superposition():
    config = SuperpositionConfig(5, 2, probability=1.0, importance_decay=0.5)
    model = train_superposition(config, steps=1500)
    assert (model.directions.norm(dim=1) > 0.5).tolist() == [True, True, False, False, False]


def test_the_same_seed_gives_the_same_model_and_samples():
    config = SuperpositionConfig(5, 2)
    one, other, different = (train_superposition(config, steps=20, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.W, other.W)
    assert not torch.equal(one.W, different.W)
    x, hidden = one.sample(7, seed=1)
    assert torch.equal(x, other.sample(7, seed=1)[0])
    torch.testing.assert_close(hidden, one.hidden(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_hidden": 6}, "1 <= n_hidden < n_features"),
        ({"probability": 0.0}, "a probability"),
        ({"importance_decay": 1.5}, "an importance_decay"),
        ({"groups": (FeatureGroup((0, 6), "correlated"),)}, "each feature from 0 to 5"),
        ({"groups": (FeatureGroup((0, 1), "correlated"), FeatureGroup((1, 2), "correlated"))}, "at most once"),
        ({"groups": (FeatureGroup((0,), "correlated"),)}, "two or more features"),
        ({"probability": 0.6, "groups": (FeatureGroup((0, 1), "anticorrelated"),)}, "exclude each other"),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SuperpositionConfig(**{"n_features": 6, "n_hidden": 2, **options})


def test_training_needs_steps():
    with pytest.raises(UsageError, match="steps and batch_size"):
        train_superposition(SuperpositionConfig(5, 2), steps=0)
