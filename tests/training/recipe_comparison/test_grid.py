"""The grid: every variant changes what its name says, and nothing else."""

import dataclasses

import pytest

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training.objectives import L1, NormWeightedL1
from gossamer.training.recipe_comparison import RecipeComparisonConfig, variants

GRID = {one.name: one for one in variants(RecipeComparisonConfig())}
BASE = GRID["baseline"].trainer


def _differences(one, other):
    """Names of the settings in which two records differ."""
    found = set()
    for item in dataclasses.fields(one):
        ours, theirs = getattr(one, item.name), getattr(other, item.name)
        if dataclasses.is_dataclass(ours) and type(ours) is type(theirs):
            found |= _differences(ours, theirs)
        elif ours != theirs:
            found.add(item.name)
    return found


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("Adam beta1 = 0", {"beta1"}),
        ("decoder norm at most 1", {"decoder_norm"}),
        ("no pre-encoder bias", {"pre_bias"}),
        ("inputs scaled to sqrt(d)", {"scaling"}),
        ("learning rate to 0", {"decay"}),
        ("all together", {"beta1", "decoder_norm", "pre_bias", "scaling", "decay"}),
        ("April 2024 recipe", {"objective", "decoder_norm", "pre_bias", "scaling", "decay", "initial_norm"}),
    ],
)
def test_improvements_change_what_they_say(name, changed):
    assert _differences(GRID[name].trainer, BASE) == changed


@pytest.mark.parametrize("name", [name for name, one in GRID.items() if one.family == "dead latents"])
def test_remedies_change_the_remedy_alone(name):
    assert _differences(GRID[name].trainer, BASE) == {"dead_latents"}
    assert GRID[name].trainer.dead_latents.name in name


def test_a_plan_has_the_coefficient_and_a_name_of_its_own():
    made = [
        one.plan(Site("resid_post", 0), coefficient, seed)
        for one in GRID.values()
        for coefficient in (0.3, 1.0)
        for seed in (0, 1)
    ]
    assert len({plan.name for plan in made}) == len(made) == 4 * len(GRID)
    assert {plan.trainer.objective.coefficient for plan in made} == {0.3, 1.0}
    assert isinstance(made[0].trainer.objective, L1)
    assert isinstance(GRID["April 2024 recipe"].plan(Site("resid_post", 0), 1.0, 0).trainer.objective, NormWeightedL1)


@pytest.mark.parametrize("changes", [{"coefficients": ()}, {"coefficients": (1.0, 1.0)}, {"seeds": 0}])
def test_impossible_grids_are_refused(changes):
    with pytest.raises(UsageError):
        RecipeComparisonConfig(**changes)


def test_some_variants_alone_beside_the_baseline():
    names = [one.name for one in variants(RecipeComparisonConfig(only=("ghost", "all together")))]
    assert names == ["baseline", "all together", "ghost"]
    with pytest.raises(UsageError, match=r"variants among Adam beta1 = 0, .*softplus, found gost"):
        variants(RecipeComparisonConfig(only=("gost",)))
