"""Settings: what cannot be is refused in one line, and everything goes through JSON."""

import json
from dataclasses import asdict, dataclass, field

import pytest

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training.checks import TrainingWarning, require_kinds, warn_of_undercomplete
from gossamer.training.config import (
    CorpusConfig,
    DictionarySpec,
    DictionaryTrainerConfig,
    FinetuneConfig,
    OptimiserConfig,
    TrainingConfig,
)
from gossamer.training.dead_latents import DeadLatentStrategy, Ghost, Resampling
from gossamer.training.objectives import (
    L1,
    AuxK,
    BatchTopK,
    Gated,
    Matryoshka,
    NormWeightedL1,
    Objective,
    QuadraticL0,
    TopK,
)
from gossamer.training.recipe_comparison import RecipeComparisonConfig

SITE = Site("mlp_in", 0)


def test_settings_go_through_json_and_name_their_kinds():
    trainer = DictionaryTrainerConfig(objective=Matryoshka(k=8, aux=AuxK(k=4)), dead_latents=Resampling())
    found = json.loads(json.dumps(DictionarySpec("a", SITE, Site("mlp_out", 0), trainer, seed=3).facts))
    assert found["trainer"]["objective"]["name"] == "matryoshka"
    assert found["trainer"]["objective"]["aux"]["k"] == 4
    assert found["trainer"]["dead_latents"]["name"] == "resampling"
    assert (found["site"], found["site_out"], found["seed"]) == ("mlp_in.0", "mlp_out.0", 3)
    assert json.loads(json.dumps(asdict(TrainingConfig())))["trainer"]["objective"]["name"] == "batchtopk"


def test_objectives_of_the_same_settings_differ_by_name():
    assert asdict(DictionaryTrainerConfig(objective=BatchTopK())) != asdict(
        DictionaryTrainerConfig(objective=TopK(), sensitivity=0.0)
    )
    assert (
        DictionarySpec("a", SITE).facts
        != DictionarySpec("a", SITE, trainer=DictionaryTrainerConfig(dead_latents=Ghost())).facts
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DictionaryTrainerConfig(n_latents=0), "n_latents of at least 1"),
        (lambda: DictionaryTrainerConfig(scaling="whitened"), "scaling among"),
        (lambda: DictionaryTrainerConfig(initial_norm=0.1), "initial_norm of 1 with decoder_norm 'unit'"),
        (lambda: DictionaryTrainerConfig(initial_norm=-1.0), "positive initial_norm"),
        (lambda: DictionaryTrainerConfig(encoder_scale=0.0), "positive encoder_scale"),
        (lambda: DictionaryTrainerConfig(sensitivity=1.0), "sensitivity between 0 and 0.99"),
        (lambda: DictionaryTrainerConfig(dead_after=0), "dead_after"),
        (lambda: OptimiserConfig(beta1=1.0), "beta1 and beta2"),
        (lambda: OptimiserConfig(decoder_norm="two"), "decoder_norm among"),
        (lambda: OptimiserConfig(learning_rate=0.0), "positive learning_rate"),
        (lambda: OptimiserConfig(clip=0.0), "positive clip"),
        (lambda: OptimiserConfig(decay=1.5), "warm_up and decay"),
        (lambda: DictionarySpec("a", SITE, SITE), "another site_out"),
        (lambda: DictionarySpec("", SITE), "a name without colons"),
        (lambda: DictionarySpec("a:b", SITE), "a name without colons"),
        (
            lambda: DictionarySpec("a", SITE, Site("mlp_out", 0), DictionaryTrainerConfig(pre_bias=True)),
            "no pre_bias for a transcoder",
        ),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(UsageError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_april_recipe_is_possible():
    free = OptimiserConfig(decoder_norm="free", decay=0.2)
    DictionaryTrainerConfig(
        objective=NormWeightedL1(), optimiser=free, scaling="sqrt_d", initial_norm=0.1, sensitivity=0.0
    )
    DictionaryTrainerConfig(objective=QuadraticL0(target=10.0), optimiser=free)


@dataclass(frozen=True)
class _Settings:
    """Of every kind that settings have. Theirs are checked by beartype before, in tests."""

    count: int = 1
    share: float = 1
    sure: bool = True
    word: str = "a"
    shares: tuple[float, ...] = (0.5, 1)
    objective: Objective = field(default_factory=TopK)
    dead_latents: DeadLatentStrategy | None = None

    def __post_init__(self):
        require_kinds(self)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 1e6}, "count to be a whole number, found 1000000.0"),
        ({"count": "64"}, "count to be a whole number, found '64'"),
        ({"count": True}, "count to be a whole number"),
        ({"share": float("inf")}, "share to be a finite number, found inf"),
        ({"share": "0.5"}, "share to be a finite number, found '0.5'"),
        ({"sure": 1}, "sure to be True or False"),
        ({"word": None}, "word to be a word, found None"),
        ({"shares": [0.5]}, "shares to be a tuple, each of it a finite number"),
        ({"shares": (0.5, float("nan"))}, "shares to be a tuple, each of it a finite number"),
        ({"objective": "topk"}, "objective to be an instance of Objective, found 'topk'"),
        ({"dead_latents": "ghost"}, "dead_latents to be an instance of DeadLatentStrategy or None, found 'ghost'"),
    ],
)
def test_settings_of_another_kind_are_refused_where_they_are_made(changes, message):
    _Settings(dead_latents=Ghost())
    with pytest.raises(UsageError, match=message):
        _Settings(**changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda value: OptimiserConfig(learning_rate=value),
        lambda value: DictionaryTrainerConfig(initial_norm=value),
        lambda value: DictionaryTrainerConfig(encoder_scale=value),
        lambda value: FinetuneConfig(logit_error=value),
        lambda value: CorpusConfig(bos=value),
        lambda value: AuxK(weight=value),
        lambda value: BatchTopK(threshold_decay=value),
        lambda value: L1(coefficient=value),
        lambda value: NormWeightedL1(coefficient=value),
        lambda value: Gated(coefficient=value),
        lambda value: QuadraticL0(target=value),
        lambda value: Matryoshka(prefixes=(value, 1.0)),
        lambda value: Resampling(dip=value),
        lambda value: RecipeComparisonConfig(coefficients=(1.0, value)),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_setting_is_infinite(make, value):
    with pytest.raises(UsageError, match="finite number"):
        make(value)


def test_the_fine_tuning_has_settings_that_are_possible():
    with pytest.raises(UsageError, match="positive clip of the fine-tuning"):
        FinetuneConfig(clip=-1.0)
    with pytest.raises(UsageError, match="logit_error and reconstruction from 0"):
        FinetuneConfig(reconstruction=-1.0)


def test_fewer_latents_than_dimensions_are_warned_of_once():
    with pytest.warns(TrainingWarning, match=r"dictionary a \(and 1 more\): 7 latents for 8 dimensions") as found:
        warn_of_undercomplete({"a": (7, 8), "fits": (8, 8), "b": (1, 8)})
    assert len(found) == 1
