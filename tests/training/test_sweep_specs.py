"""Combinations of settings: all of them, named, and nothing that fits none."""

import pytest
from training_fixtures import CONFIG

from gossamer.errors import UsageError
from gossamer.training.objectives import L1, TopK
from gossamer.training.sweep_specs import OBJECTIVES, SweepSpec, sweep_specs

BASE = CONFIG.trainer


def test_nothing_given_is_the_base_itself():
    (only,) = sweep_specs(BASE, seeds=[4])
    assert (only.name, only.trainer, only.seed) == ("", BASE, 4)


def test_every_combination_comes_once_under_its_own_name():
    found = sweep_specs(
        BASE, objective=["batchtopk", "topk", "l1"], n_latents=[32, 64], k=[2, 3], penalty=[0.5], seeds=[0, 1]
    )
    # Two objectives with two k each, one with one penalty; two widths and two seeds of all.
    assert len(found) == (2 * 2 + 1) * 2 * 2
    assert len({one.name for one in found}) == len(found)
    assert found[0].name == "batchtopk-32-k2-seed0"
    assert found[-1].name == "l1-64-penalty0.5-seed1"
    assert {one.trainer.objective.k for one in found if isinstance(one.trainer.objective, TopK)} == {2, 3}
    assert {one.trainer.objective.coefficient for one in found if isinstance(one.trainer.objective, L1)} == {0.5}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_known_by_name_and_keeps_what_it_shares_with_the_base(name):
    (found,) = sweep_specs(BASE, objective=[name])
    assert found.trainer.objective.name == name
    assert found.trainer.n_latents == BASE.n_latents
    if isinstance(found.trainer.objective, TopK):
        assert found.trainer.objective.k == BASE.objective.k


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"objective": ["relu"]}, "expected one of batchtopk, .*found 'relu'"),
        ({"objective": ["l1"], "k": [3]}, "k: none of the objectives"),
        ({"penalty": [3.0]}, "penalty: none of the objectives"),
        ({"l0": [8.0]}, "l0: none of the objectives"),
        ({"seeds": [0, 0]}, "each setting once, found batchtopk-64-k6-seed0 twice"),
        ({"objective": ["l1"], "penalty": [0.5, 0.50]}, "found l1-64-penalty0.5-seed0 twice"),
        ({"k": [65]}, "k from 1 to n_latents=64"),
    ],
)
def test_what_fits_nothing_is_refused(asked, expected):
    with pytest.raises(UsageError, match=expected):
        sweep_specs(BASE, **asked)


def test_l0_targets_are_for_objectives_that_have_one():
    found = sweep_specs(BASE, objective=["jumprelu_quadratic", "l1"], penalty=[0.5, 2.0], l0=[8.0, 16.0])
    assert [one.name for one in found] == [
        "jumprelu_quadratic-64-l0_8-penalty0.5-seed0", "jumprelu_quadratic-64-l0_16-penalty0.5-seed0",
        "jumprelu_quadratic-64-l0_8-penalty2-seed0", "jumprelu_quadratic-64-l0_16-penalty2-seed0",
        "l1-64-penalty0.5-seed0", "l1-64-penalty2-seed0",
    ]  # fmt: skip
    assert [one.trainer.objective.target for one in found[:2]] == [8, 16]


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "a b", "c:"])
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(UsageError, match="a set's name of letters"):
        SweepSpec(name, BASE, 0)
