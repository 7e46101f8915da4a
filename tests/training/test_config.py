"""Settings: what cannot be is refused in one line, and everything goes through JSON."""

import json
from dataclasses import asdict

import pytest

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training.config import LearnerConfig, OptimiserConfig, Plan, TrainingConfig
from gossamer.training.objectives import April, AuxK, BatchTopK, Matryoshka, QuadraticL0, TopK
from gossamer.training.remedies import Ghost, Resampling

SITE = Site("mlp_in", 0)


def test_settings_go_through_json_and_name_their_kinds():
    learner = LearnerConfig(objective=Matryoshka(k=8, aux=AuxK(k=4)), remedy=Resampling())
    found = json.loads(json.dumps(Plan("a", SITE, Site("mlp_out", 0), learner, seed=3).facts))
    assert found["learner"]["objective"]["name"] == "matryoshka"
    assert found["learner"]["objective"]["aux"]["k"] == 4
    assert found["learner"]["remedy"]["name"] == "resampling"
    assert (found["site"], found["site_out"], found["seed"]) == ("mlp_in.0", "mlp_out.0", 3)
    assert json.loads(json.dumps(asdict(TrainingConfig())))["learner"]["objective"]["name"] == "batchtopk"


def test_objectives_of_the_same_settings_differ_by_name():
    assert asdict(LearnerConfig(objective=BatchTopK())) != asdict(LearnerConfig(objective=TopK(), sensitivity=0.0))
    assert Plan("a", SITE).facts != Plan("a", SITE, learner=LearnerConfig(remedy=Ghost())).facts


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnerConfig(n_latents=0), "n_latents of at least 1"),
        (lambda: LearnerConfig(scaling="whitened"), "scaling among"),
        (lambda: LearnerConfig(initial_norm=0.1), "initial_norm of 1 with decoder_norm 'unit'"),
        (lambda: LearnerConfig(initial_norm=-1.0), "positive initial_norm"),
        (lambda: LearnerConfig(sensitivity=1.0), "sensitivity between 0 and 0.99"),
        (lambda: LearnerConfig(dead_after=0), "dead_after"),
        (lambda: OptimiserConfig(beta1=1.0), "beta1 and beta2"),
        (lambda: OptimiserConfig(decoder_norm="two"), "decoder_norm among"),
        (lambda: OptimiserConfig(learning_rate=0.0), "positive learning_rate"),
        (lambda: OptimiserConfig(clip=0.0), "positive clip"),
        (lambda: OptimiserConfig(decay=1.5), "warm_up and decay"),
        (lambda: Plan("a", SITE, SITE), "another site_out"),
        (lambda: Plan("", SITE), "a name without colons"),
        (lambda: Plan("a:b", SITE), "a name without colons"),
        (lambda: Plan("a", SITE, Site("mlp_out", 0), LearnerConfig(pre_bias=True)), "no pre_bias for a transcoder"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(UsageError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_april_recipe_is_possible():
    free = OptimiserConfig(decoder_norm="free", decay=0.2)
    LearnerConfig(objective=April(), optimiser=free, scaling="sqrt_d", initial_norm=0.1, sensitivity=0.0)
    LearnerConfig(objective=QuadraticL0(target=10.0), optimiser=free)
