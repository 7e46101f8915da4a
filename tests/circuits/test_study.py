"""What searches and measurements share: checks before any work, prompts, methods."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from circuit_lab import SEARCH, SETTINGS, able_examples, all_nodes, swapped

from gossamer.circuits import methods
from gossamer.circuits.methods import ASKED_FOR, METHODS
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.reference import ReferenceSettings, reference_path
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import Task


def test_a_logit_difference_below_zero_is_refused_whatever_the_accuracy(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    never = Study(model, dictionaries, swapped(task, list(range(12))), StudySettings(minimum_accuracy=0.0))
    with pytest.raises(GossamerError, match="cannot do"):
        never.require_ability()
    lenient = Study(model, dictionaries, swapped(task, [3]), StudySettings(minimum_accuracy=0.9))
    lenient.require_ability()


@pytest.mark.parametrize("incorrect", [{"batch_size": 0}, {"prompts": -1}, {"minimum_accuracy": 1.5}])
def test_impossible_settings_are_refused(incorrect: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(incorrect))}: .* expected, found"):
        StudySettings(**incorrect)


def test_dictionaries_on_another_device_are_refused(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    first = next(iter(dictionaries))
    elsewhere = Dictionary(dictionaries[first].config, device="meta")
    with pytest.raises(UsageError, match=f"dictionary at {first}: expected on cpu as .*, found on meta"):
        Study(model, {**dictionaries, first: elsewhere}, task).require_one_device()


def test_a_model_on_several_devices_is_refused(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = [SimpleNamespace(device=torch.device("cuda", place)) for place in (0, 1, 1)]
    monkeypatch.setattr(model.hf, "parameters", lambda: iter(spread))
    with pytest.raises(UsageError, match=r"on one device expected, found .* on cuda:0, cuda:1"):
        Study(model, dictionaries, task).require_one_device()


def test_a_method_that_does_not_exist_is_refused(study: Study) -> None:
    with pytest.raises(UsageError, match=r"methods are mask, .*greedy; found magic"):
        study.paths(["mask", "magic"])


def test_the_prompts_of_a_search_can_be_fewer_than_those_of_the_means(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    few = Study(model, dictionaries, task, replace(SETTINGS, prompts=4))
    assert len(few.splice.examples) == 4
    whole = Study(model, dictionaries, task, SETTINGS)
    for site in dictionaries:
        assert torch.equal(few.ablation.sites[site].latents, whole.ablation.sites[site].latents)


def test_every_method_gives_a_path_over_the_same_nodes(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = ReferenceSettings(lambdas=(0.0, 0.01), learning_rate=0.3, steps=3)
    monkeypatch.setattr(methods, "reference_path", partial(reference_path, settings=quick))
    names = [name for name in METHODS if name not in ("mask", *ASKED_FOR)]
    paths = study.paths(names, SEARCH)
    assert [path.method for path in paths] == names
    for path in paths:
        if path.method == "reference recipe":
            assert set(path.nodes.keys()) == set(all_nodes(study.dictionaries).keys())
            assert len(path.circuits) == 2
        else:
            # As the search's sizes, and on to all candidates: a curve that stops before its target says nothing.
            assert path.sizes[0] == len(study.nodes)
            assert [size for size in path.sizes if size <= 80] == [80, 40, 20, 10]
            assert all(larger <= 1.5 * smaller for larger, smaller in pairwise(path.sizes[:-3]))
            assert path.nodes.keys() == study.nodes.keys()
            assert path.scores is not None
    ranked = {path.method: path for path in paths if path.method != "reference recipe"}
    assert len({tuple(path.of_size(80).tolist()) for path in ranked.values()}) == len(ranked)
    for name in ("integrated gradients", "attribution patching"):
        size, sign = ranked[name], ranked[f"{name}, signed"]
        assert size.scores is sign.scores, "computed once"
        assert size.seconds == sign.seconds > 0
        assert (size.scores[sign.of_size(10)] > 0).all()
        assert (size.scores[size.of_size(40)] < 0).any()


def test_the_prompts_of_the_tests_are_ones_that_the_model_can_do(model: LanguageModel) -> None:
    examples = able_examples(model, 12, seed=1)
    with torch.no_grad():
        logits = model.logits(examples.clean.tokens, at=examples.clean.answer_position)
    row = torch.arange(12)
    assert (logits[row, examples.answer] > logits[row, examples.incorrect]).all()


def test_circuits_are_fitted_to_some_names_and_chosen_on_others(named: Study) -> None:
    given = named.method_inputs(SEARCH)
    assert given.validation is not None
    names = [
        {prompt.clean_text for prompt in side.splice.examples.prompts} for side in (given.fitted, given.validation)
    ]
    assert (len(names[0]), len(names[1])) == (7, 3)
    assert not names[0] & names[1]
    assert (len(given.fitted.splice.examples), len(given.validation.splice.examples)) == (28, 12)
    assert len(given.training.splice.examples) == 40, "what makes no choices scores on all of them"
    for side in (given.fitted, given.validation):
        torch.testing.assert_close(
            side.full.prompt_metrics.metric,
            FullModel.measure(side.splice.full, side.splice.examples).prompt_metrics.metric,
        )
    refiner = given.refiner()
    assert refiner.validation is not None
    assert refiner.validation.splice.examples.prompts == given.validation.splice.examples.prompts


def test_without_a_validation_share_all_prompts_are_fitted_and_chosen_on(named: Study) -> None:
    whole = replace(named, settings=replace(named.settings, validation=0.0))
    given = whole.method_inputs(SEARCH)
    assert given.validation is None
    assert given.fitted is given.training
    assert whole.choice is whole.train
    with pytest.raises(UsageError, match="validation: a share from 0 to less than 1 expected, found 1"):
        StudySettings(validation=1.0)
