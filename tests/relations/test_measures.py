from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr

from gossamer.relations import MEASURES, PairCounts, pearson_interval, support_needed, wilson
from gossamer.statistics import Z

F, G = np.array([0.0, 1, 2, 0, 3, 0]), np.array([0.0, 2, 2, 1, 0, 0])


def counts(theta, phi):
    a, b = theta < F, phi < G
    n, m, c, product, *sums = map(np.atleast_1d, (a.sum(), b.sum(), (a & b).sum(), (F * G).sum(), F.sum(), G.sum()))
    squares = np.atleast_1d((F**2).sum()), np.atleast_1d((G**2).sum())
    return PairCounts(6, n, m, c, product, tuple(sums), squares)


def test_measures_of_the_published_vector():
    expected = {
        "pearson": 0.160817,
        "jaccard": 0.5,
        "sufficiency": 2 / 3,
        "necessity": 2 / 3,
        "cosine": 0.534522,
        "mutual_information": 0.056633,
    }
    for name, value in expected.items():
        assert MEASURES[name](counts(0, 0)).item() == pytest.approx(value, abs=5e-7), name
    relative = counts(1.5, 1.0)
    assert [MEASURES[name](relative).item() for name in ("jaccard", "sufficiency", "necessity")] == [1 / 3, 0.5, 0.5]


def test_dead_latents_have_no_relation_and_no_nan():
    zero = np.zeros(1)
    dead = PairCounts(6, np.zeros(1, int), np.array([3]), np.zeros(1, int), zero, (zero, zero + 5), (zero, zero + 9))
    assert {name: measure(dead).tolist() for name, measure in MEASURES.items()} == {name: [0.0] for name in MEASURES}


def counted(f, g):
    """Counts and sums of one pair of latents, or of many: tokens stand in the last axis."""
    a, b = f > 0, g > 0
    sums, squares = (tuple(np.atleast_1d((one**k).sum(-1)) for one in (f, g)) for k in (1, 2))
    n, m, c = (np.atleast_1d(one.sum(-1)) for one in (a, b, a & b))
    return PairCounts(f.shape[-1], n, m, c, np.atleast_1d((f * g).sum(-1)), sums, squares)


def spread(f, g):
    """The standard error of a correlation on Fisher's scale, from the activations: its influence at every token."""
    z, w = ((one - one.mean()) / one.std() for one in (f, g))
    r = (z * w).mean()
    return (z * w - r * (z**2 + w**2) / 2).std() / len(f) ** 0.5 / (1 - r**2)


def half_width(counts):
    low, high = pearson_interval(counts)
    return ((np.arctanh(high) - np.arctanh(low)) / 2 / Z).item()


def sparse(draw, tokens, *, factor=1.0, shape=0.6):
    """Two sparse lognormal latents that are often active together, and larger then by a factor."""
    a, b = draw.random((2, tokens)) < np.array([[0.03], [0.05]])
    together = draw.random(tokens) < 0.02
    a, b = a | together, b | together
    larger = np.where(a & b, factor, 1.0)
    return a * larger * np.exp(shape * draw.normal(size=tokens)), b * larger * np.exp(shape * draw.normal(size=tokens))


def test_the_interval_of_pearson_is_that_of_the_delta_method():
    draw = np.random.default_rng(0)
    # Of latents that are on or off it is exact, whatever their height.
    a, b = (draw.random(900) < 0.1, draw.random(900) < 0.2)
    for f, g in ((a, b | a), (3.0 * a, 0.5 * (a & b)), (1.0 * a, 2.0 * (b & ~a))):
        assert half_width(counted(f * 1.0, g * 1.0)) == pytest.approx(spread(f * 1.0, g * 1.0), rel=1e-9)
    # Of lognormal ones up to the noise of their fourth moments, where Fisher's is far too narrow.
    for factor in (1.0, 1.6):
        f, g = sparse(draw, 400_000, factor=factor)
        expected = spread(f, g)
        assert half_width(counted(f, g)) == pytest.approx(expected, rel=0.1)
        assert len(f) ** -0.5 < 0.5 * expected


def test_the_interval_of_pearson_holds_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(1)
    truth = pearsonr(*sparse(draw, 4_000_000)).statistic
    pairs = [sparse(draw, 4000) for _ in range(400)]
    many = counted(*(np.stack(side) for side in zip(*pairs, strict=True)))
    low, high = pearson_interval(many)
    assert 0.91 < ((low < truth) & (truth < high)).mean() < 0.985
    fisher = np.abs(np.arctanh(MEASURES["pearson"](many)) - np.arctanh(truth)) < Z / 4000**0.5
    assert fisher.mean() < 0.7


def test_intervals_of_what_never_varies_or_is_never_together_are_no_nan():
    rare, never, always = np.eye(3)[0], np.zeros(3), np.ones(3)
    for f, g in ((rare, never), (rare, always), (never, never)):
        assert [one.item() for one in pearson_interval(counted(f, g))] == [-1.0, 1.0]
    apart = np.repeat(np.eye(3)[:2], 50, axis=1)
    low, high = pearson_interval(counted(*apart))
    assert -1 < low.item() < np.corrcoef(apart)[0, 1] < high.item() < 0
    same = np.exp(np.random.default_rng(2).normal(size=500))
    assert pearson_interval(counted(same, same))[0].item() > 0.99
    # Counts above a threshold that the activations themselves are mostly below.
    few = replace(counted(same, same[::-1]), n=np.array([1]), m=np.array([2]), c=np.array([0]))
    low, high = pearson_interval(few)
    assert -1 <= low.item() <= high.item() <= 1


def test_support_needed_is_the_first_at_which_a_perfect_share_clears_the_threshold():
    for threshold in (0.5, 0.95):
        counts = support_needed(threshold) - np.arange(2)
        enough, less = wilson(counts, counts)[0]
        assert enough >= threshold > less
