"""Scores of features against double loops, all assignments, and cases whose answer is known."""

import itertools

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.dictionary.config import Contents
from gossamer.errors import UsageError
from gossamer.sparse.latents import SparseLatents
from gossamer.toys.feature_scores import align, score_features
from gossamer.toys.recovery import unit_rows

DRAW = torch.Generator().manual_seed(0)
D, N = 6, 6
DIRECTIONS = torch.linalg.qr(torch.randn(D, D, generator=DRAW))[0]
FEATURES = torch.rand(500, N, generator=DRAW).sub(0.7).clamp(min=0) * 10
BIAS = torch.randn(D, generator=DRAW)


def of_decoder(rows):
    config = DictionaryConfig("relu", rows.shape[1], len(rows))
    tensors = {"W_enc": rows.T.clone(), "b_enc": torch.zeros(len(rows)), "W_dec": rows, "b_dec": BIAS}
    return Dictionary.from_contents(Contents(config, tensors, {}))


def scores(decoder, codes, features=FEATURES, directions=DIRECTIONS, parts=1):
    """Codes are given sample by sample, in the order of the blocks."""
    x = features @ directions + BIAS
    rest = iter(codes.chunk(parts))
    blocks = zip(features.chunk(parts), x.chunk(parts), strict=True)
    return score_features(
        align(decoder, directions), of_decoder(decoder), lambda _: SparseLatents.from_dense(next(rest)), blocks
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 5, 0, 2, 1, 4]])
def test_the_true_features_in_any_order_and_length_are_perfect(order):
    found = scores(2 * DIRECTIONS[order], FEATURES[:, order] / 2)
    perfect = found.mcc, found.uniqueness, found.f1, found.precision, found.recall
    assert perfect == pytest.approx((1, 1, 1, 1, 1))
    assert (found.explained_variance, found.shrinkage) == pytest.approx((1, 1))
    assert (found.dead, found.latents) == (0, 6)
    assert found.l0 == found.true_l0 == pytest.approx((FEATURES > 0).sum().item() / 500)


def test_latents_that_fire_by_chance_detect_by_chance():
    # F1 of independent events of probabilities p and q is 2 p q / (p + q).
    draw = torch.Generator().manual_seed(1)
    features = (torch.rand(40_000, N, generator=draw) < 0.3).float()
    codes = (torch.rand(40_000, N, generator=draw) < 0.2).float()
    found = scores(DIRECTIONS, codes, features)
    assert (found.precision, found.recall) == pytest.approx((0.3, 0.2), abs=0.01)
    assert found.f1 == pytest.approx(2 * 0.3 * 0.2 / 0.5, abs=0.01)


def test_random_directions_are_matched_by_chance():
    draw = torch.Generator().manual_seed(2)
    rows, directions = torch.randn(20, 50, generator=draw), torch.randn(20, 50, generator=draw)
    # Cosines of random directions have a deviation of 1 / sqrt(50) = .14; the largest of a few are chosen.
    assert 0.14 < align(rows, directions).mcc < 0.4


def test_every_score_is_that_of_plain_loops():
    draw = torch.Generator().manual_seed(3)
    decoder = torch.randn(4, D, generator=draw)
    codes = torch.rand(300, 4, generator=draw).sub(0.6).clamp(min=0)
    codes[:, 3] = 0
    features = FEATURES[:300]
    found = scores(decoder, codes, features)
    cosines = [[abs(float(torch.cosine_similarity(row, one, dim=0))) for one in DIRECTIONS] for row in decoder]
    best = max(
        sum(cosines[latent][feature] for latent, feature in enumerate(chosen))
        for chosen in itertools.permutations(range(N), 4)
    )
    assert found.mcc == pytest.approx(best / 4, rel=1e-5)
    nearest = [row.index(max(row)) for row in cosines]
    assert found.uniqueness == len(set(nearest)) / 4
    each = []
    for latent, feature in enumerate(nearest):
        fires, real = codes[:, latent] > 0, features[:, feature] > 0
        right, wrong = (fires & real).sum().item(), (fires & ~real).sum().item()
        missed = (~fires & real).sum().item()
        precision = right / (right + wrong) if right + wrong else 0.0
        recall = right / (right + missed)
        each.append((precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0))
    expected = [sum(values) / 4 for values in zip(*each, strict=True)]
    assert [found.precision, found.recall, found.f1] == pytest.approx(expected)
    x, written = (features @ DIRECTIONS + BIAS).double(), (codes @ decoder + BIAS).double()
    residual = (x - written).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert found.explained_variance == pytest.approx(1 - residual.item(), rel=1e-5)
    assert found.shrinkage == pytest.approx((written.norm(dim=1) / x.norm(dim=1)).mean().item(), rel=1e-5)
    assert (found.dead, found.latents) == (1, 4)
    assert found.l0 == pytest.approx((codes > 0).sum().item() / 300)


def test_blocks_change_nothing():
    draw = torch.Generator().manual_seed(4)
    codes = torch.rand(500, N, generator=draw).sub(0.6).clamp(min=0)
    whole, parts = scores(DIRECTIONS, codes), scores(DIRECTIONS, codes, parts=7)
    assert vars(parts) == pytest.approx(vars(whole), rel=1e-9)


def test_signs_do_not_count_and_duplicates_do():
    twice = DIRECTIONS[[0, 0, 1, 2]] * torch.tensor([1.0, 2.0, -1.0, 1.0])[:, None]
    found = align(twice, DIRECTIONS)
    assert found.nearest.tolist() == [0, 0, 1, 2]
    # The second latent of feature 0 is matched with some other feature, at a right angle.
    assert (found.mcc, found.uniqueness) == pytest.approx((0.75, 0.75), abs=1e-6)


def test_unit_rows_leave_zeros():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert unit_rows(rows).tolist() == [[0.6, 0.8], [0.0, 0.0]]


def test_other_widths_and_no_samples_are_refused():
    with pytest.raises(UsageError, match=r"one width expected, found \(6, 6\) and \(6, 5\)"):
        align(DIRECTIONS, DIRECTIONS[:, :5])
    with pytest.raises(UsageError, match="at least one sample expected, found none"):
        score_features(align(DIRECTIONS, DIRECTIONS), of_decoder(DIRECTIONS), SparseLatents.from_dense, [])
