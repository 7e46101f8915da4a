"""The study of known features: truth and chance at its ends, choices on other samples, and a stopped study goes on."""

from dataclasses import replace

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.toys import features_truth as study
from gossamer.toys.feature_scores import align
from gossamer.toys.pursuit_learning import learn_by_pursuit, of_rows
from gossamer.toys.synthetic_world import WORLDS, World, WorldConfig
from gossamer.training.config import FitConfig, OptimiserConfig

WORLD = WorldConfig(features=48, d=32, roots=2, branching=2, depth=2, orthogonal_steps=20)
TINY = study.FeaturesTruthSettings(
    WORLD, seeds=2, n_latents=32, l0s=(3,), l1=(0.3,), samples=256, batch=128, chosen_on=64, scored_on=256
)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A study of one seed, and one of two that is stopped after its first seed and goes on."""
    folder, whole = tmp_path_factory.mktemp("study"), study._of_seed

    def stopping(settings, seed, *rest):
        if seed == 1:
            raise KeyboardInterrupt
        return whole(settings, seed, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "_of_seed", stopping)
        with pytest.raises(KeyboardInterrupt):
            study.features_truth(TINY, folder=folder)
    return study.features_truth(replace(TINY, seeds=1)), study.features_truth(TINY, folder=folder)


def test_every_dictionary_is_read_in_every_way_at_every_l0(studies):
    found = studies[1]
    assert found.targets == [3]
    expected = {(name, reading) for name in study.TRAINED for reading in ("encoder", *study.PURSUITS)}
    given = (study.LEARNED, study.TRUTH, study.RANDOM)
    expected |= {(name, reading) for name in given for reading in study.PURSUITS}
    for target in found.targets:
        groups = found.at(target)
        assert set(groups) == expected
        assert all(len(seeds) == 2 for seeds in groups.values())


def test_a_seed_is_the_same_alone_and_in_a_study_that_was_stopped(studies):
    one, both = studies
    assert one.scored == tuple(row for row in both.scored if row.seed == 0)
    assert one.scored[0].scores != both.scored[len(one.scored)].scores


def test_the_truth_is_found_and_chance_is_not(studies):
    for (dictionary, reading), found in studies[1].at(3).items():
        for scores in found:
            if dictionary == study.TRUTH:
                assert (scores.mcc, scores.uniqueness) == pytest.approx((1, 1))
                assert scores.f1 > 0.6
            if dictionary == study.RANDOM:
                assert scores.mcc < 0.6
                assert scores.f1 < 0.4
            if reading in study.PURSUITS:
                assert scores.l0 <= 3


def test_readings_of_one_decoder_share_what_is_the_decoders(studies):
    groups = studies[1].at(3)
    for name in study.TRAINED:
        mccs = {tuple(one.mcc for one in groups[name, reading]) for reading in ("encoder", *study.PURSUITS)}
        assert len(mccs) == 1


def test_orthogonal_pursuit_reconstructs_best_of_pursuits(studies):
    groups = studies[1].at(3)
    for name in (*study.TRAINED, study.LEARNED, study.RANDOM):
        by = {method: sum(one.explained_variance for one in groups[name, method]) for method in study.PURSUITS}
        assert by["orthogonal"] >= by["matching"] - 1e-4


def test_a_ladder_is_chosen_from_by_l0_on_samples_of_its_own():
    world = World.of(WORLD)
    ladder = [of_rows(world.directions[:16], world.bias, study.SITE, k) for k in (1, 3, 8)]
    for target, expected in ((1, 0), (2, 1), (3, 1), (4, 1), (6, 2)):
        assert study.nearest_in_l0(ladder, target, world.blocks(64, "chosen")) is ladder[expected]
    chosen, scored = (next(world.blocks(64, purpose))[1] for purpose in ("chosen", "scored"))
    assert not torch.equal(chosen, scored)


def test_pursuit_learns_features_that_are_alone():
    config = WorldConfig(features=4, d=16, roots=0, rank=1, correlation=0.0, most_frequent=0.3, least_frequent=0.2)
    world = World.of(replace(config, orthogonal_rate=1e-2, bias=0.0))
    fit = FitConfig(tokens=8192, batch=64, buffer=8192)
    found = learn_by_pursuit(world.stream(study.SITE, 8192), 8, (2,), fit, OptimiserConfig(learning_rate=3e-2), 0)[2]
    assert align(found.W_dec, world.directions).mcc > 0.95
    torch.testing.assert_close(found.W_dec.norm(dim=1), torch.ones(8))


def test_impossible_studies_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"L0s up to n_latents, .* 48 features expected, found \(2, 33\) and 32"):
        replace(TINY, l0s=(2, 33))
    with pytest.raises(UsageError, match="seeds, latents, L0s, samples from 1"):
        replace(TINY, seeds=0)
    full = study.full_size()
    assert (full.world, full.n_latents, full.l0s) == (WORLDS["synthsaebench-16k"], 4096, (20, 25))
