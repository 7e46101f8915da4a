"""A synthetic world has the frequencies, the hierarchy, the correlations and the magnitudes that its module states."""

import itertools
from dataclasses import replace

import pytest
import torch
from scipy.stats import multivariate_normal, norm

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.toys.synthetic_world import WORLDS, World, WorldConfig, _keep_one, closeness, of_seed, pushed_apart
from gossamer.training.source import ActivationSource, TurnPlace, batches

SITE = Site("resid_post", 0)
SMALL = WorldConfig(features=30, d=8, roots=2, branching=3, depth=2, orthogonal_steps=0, rank=3, correlation=0.2)


def drawn(world, count=20_000, purpose="test"):
    blocks = list(world.blocks(count, purpose))
    return tuple(torch.cat(parts) for parts in zip(*blocks, strict=True))


def test_the_published_world_has_its_published_l0():
    # What features do depends neither on the dimensions nor on the directions.
    config = replace(WORLDS["synthsaebench-16k"], d=4, orthogonal_steps=0)
    features, _ = drawn(World.of(config), 256)
    active = (features > 0).double()
    assert active.sum(dim=1).mean().item() == pytest.approx(34, abs=1.2)
    assert active[:, :4096].sum(dim=1).mean().item() == pytest.approx(25, abs=0.7)


def test_frequencies_fall_as_a_power_and_are_drawn_more_often_below_parents():
    config = SMALL
    powers = [(i + 1) ** -0.5 for i in range(30)]
    expected = [5e-4 + (0.4 - 5e-4) * (one - powers[-1]) / (powers[0] - powers[-1]) for one in powers]
    torch.testing.assert_close(config.frequencies, torch.tensor(expected, dtype=torch.float64))
    assert [list(level) for level in config.levels] == [[0, 1], list(range(2, 8)), list(range(8, 26))]
    for child in range(30):
        parent = None if child < 2 or child >= 26 else _parent(child)
        if parent is None:
            assert config.drawn[child].item() == pytest.approx(expected[child])
            continue
        siblings = [one for one in range(2, 26) if one != child and _parent(one) == parent]
        others = sum(expected[one] for one in siblings)
        wanted = expected[child] / expected[parent] * (1 + others / expected[parent])
        assert config.drawn[child].item() == pytest.approx(min(1.0, wanted))


def _parent(feature):
    return (feature - 2) // 3 if feature < 8 else 2 + (feature - 8) // 3


def test_a_child_needs_its_parent_and_siblings_exclude_each_other():
    world = World.of(SMALL)
    active = drawn(world, 4000)[0] > 0
    for child in range(2, 26):
        assert not (active[:, child] & ~active[:, _parent(child)]).any()
        assert active[:, child].any()
    for one, other in itertools.combinations(range(2, 26), 2):
        if _parent(one) == _parent(other):
            assert not (active[:, one] & active[:, other]).any()


def test_children_alone_keep_their_frequency_exactly():
    config = WorldConfig(features=24, d=4, roots=3, branching=1, depth=3, correlation=0.0, orthogonal_steps=0)
    count = 40_000
    world = World.of(config)
    features, _ = drawn(replace(world, deviations=torch.zeros(24)), count)
    p = config.frequencies
    away = ((features > 0).double().mean(dim=0) - p).abs() / (p * (1 - p) / count).sqrt()
    assert away.max() < 4.5


def test_features_correlate_as_a_gaussian_copula_does():
    config = WorldConfig(features=5, d=4, roots=0, rank=2, correlation=0.5, orthogonal_steps=0, least_frequent=0.1)
    world, count = World.of(config), 60_000
    active = (drawn(world, count)[0] > 0).double()
    both = active.T @ active / count
    gaussian = world.loadings.double() @ world.loadings.double().T
    strongest = 0.0
    for i, j in itertools.combinations(range(5), 2):
        covariance = [[1, gaussian[i, j]], [gaussian[i, j], 1]]
        at = -norm.isf(config.frequencies[[i, j]].numpy())
        expected = multivariate_normal.cdf(at, [0, 0], covariance)
        assert both[i, j].item() == pytest.approx(expected, abs=5 * (expected / count) ** 0.5)
        alone = float(config.frequencies[i] * config.frequencies[j])
        strongest = max(strongest, abs(expected - alone) / (expected / count) ** 0.5)
    # The test sees correlations: independent features would be far outside.
    assert strongest > 20


def test_magnitudes_and_what_a_parent_makes_of_its_childs():
    world = World.of(SMALL)
    features, x = drawn(world, 30_000)
    for feature in (0, 1, 26):
        values = features[:, feature][features[:, feature] > 0].double()
        spread = world.deviations[feature].item()
        assert values.mean().item() == pytest.approx(world.means[feature].item(), abs=5 * spread / len(values) ** 0.5)
        assert values.std().item() == pytest.approx(spread, rel=0.15)
    torch.testing.assert_close(x, features @ world.directions + world.bias)
    assert world.bias.norm().item() == pytest.approx(0.5)
    # Only roots vary: then a child is its own mean times its root's value over the root's mean.
    deviations = world.deviations * (torch.arange(30) < 2)
    features, _ = drawn(replace(world, deviations=deviations), 2000)
    for child in range(2, 26):
        root = _parent(child) if child < 8 else _parent(_parent(child))
        there = features[:, child] > 0
        expected = world.means[child] * features[there, root] / world.means[root]
        torch.testing.assert_close(features[there, child], expected)


def test_of_active_siblings_each_is_as_likely_to_stay():
    below = torch.ones(30_000, 1, 3)
    below[:, :, 1] = 2.0
    below[20_000:] = torch.tensor([0.0, 3.0, 0.0])
    wanted = torch.ones(30_000, 1, dtype=torch.bool)
    wanted[:2000] = False
    found = below.clone()
    _keep_one(found, wanted, torch.Generator().manual_seed(0))
    assert torch.equal(found[:2000], below[:2000])
    assert torch.equal(found[20_000:], below[20_000:])
    chosen = found[2000:20_000, 0]
    assert ((chosen > 0).sum(dim=1) == 1).all()
    assert ((chosen > 0).sum(dim=0) - 6000).abs().max() < 5 * (18_000 * 2 / 9) ** 0.5


def test_closeness_is_the_sum_over_pairs_and_its_gradient_too():
    rows = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    plain = sum((rows[i] @ rows[j]) ** 2 for i in range(7) for j in range(7) if i != j)
    plain = plain + 7 * sum((row @ row - 1) ** 2 for row in rows)
    torch.testing.assert_close(closeness(rows), plain)
    (ours,), (theirs,) = torch.autograd.grad(closeness(rows), rows), torch.autograd.grad(plain, rows)
    torch.testing.assert_close(ours, theirs)


def test_directions_are_pushed_apart_to_unit_length():
    rows = pushed_apart(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), 300, 1e-2)
    torch.testing.assert_close(rows @ rows.T, torch.eye(6), atol=0.02, rtol=0)


def test_samples_depend_on_the_seed_and_the_purpose_alone():
    world = World.of(SMALL)
    first, again = drawn(world, 50), drawn(World.of(SMALL), 50)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], drawn(world, 50, "other")[1])
    assert of_seed(SMALL, 0) == SMALL
    assert not torch.equal(World.of(of_seed(SMALL, 1)).directions, world.directions)


def test_a_world_is_a_source_of_batches():
    stream = World.of(SMALL).stream(SITE, 64)
    assert isinstance(stream, ActivationSource)
    taken = [parts[0][SITE] for _, parts in itertools.islice(batches(stream, TurnPlace(), 32), 4)]
    assert len({float(one.sum()) for one in taken}) == 4
    assert torch.equal(torch.cat(taken[:2]), stream.turn(0).take(0, 64)[SITE])
    assert not torch.equal(stream.turn(1).take(0, 64)[SITE], stream.turn(0).take(0, 64)[SITE])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 25}, "room for the trees' 26 features expected, found 25"),
        ({"d": 0}, "features, d and rank from 1"),
        ({"least_frequent": 0.5}, "0 < least_frequent < most_frequent <= 1"),
        ({"branching": 0}, "at least one child of each parent expected, found branching=0"),
        ({"bias": -1.0}, "correlation and bias from 0"),
    ],
)
def test_impossible_worlds_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **change)
