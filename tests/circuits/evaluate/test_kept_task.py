"""What dictionaries keep of a task before any circuit: against the study's own numbers, and prompts that were seen."""

from dataclasses import replace

import pytest
from circuit_lab import SETTINGS, able_task, random_dictionary, sites_of

from gossamer.circuits.evaluate.kept_task import kept_task, prompts_seen
from gossamer.circuits.evaluate.restored_errors import restored_errors
from gossamer.circuits.study import Study
from gossamer.dictionary import Dictionary
from gossamer.dictionary.config import Contents
from gossamer.dictionary.training_prompts import text_digest
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.prompt import Piece
from gossamer.tasks.task import Task

SITES = sites_of("resid_post.1", "mlp_out.2")


def study_of(model: LanguageModel, task: Task, **provenance: object) -> Study:
    made = [random_dictionary(site, seed=seed) for seed, site in enumerate(SITES)]
    given = [Dictionary.from_contents(Contents(one.config, dict(one.state_dict()), dict(provenance))) for one in made]
    return Study(model, dict(zip(SITES, given, strict=True)), task, replace(SETTINGS, minimum_accuracy=0.0))


def test_it_is_what_a_study_with_candidates_measures(model: LanguageModel, task: Task) -> None:
    study = study_of(model, task)
    found, evaluator = kept_task(study), study.evaluator
    whole = evaluator.task_metrics("+ all dictionaries", evaluator.dictionaries)
    assert found.budget == evaluator.budget(evaluator.splice.nodes)[:-2]
    assert [one.name for one in found.budget] == ["full model", *(f"+ {site} alone" for site in SITES), whole.name]
    assert found.budget[-1] == whole
    assert found.restored == restored_errors(evaluator)
    assert found.prompts == len(task.test)
    assert repr(found).startswith("KeptTask(all dictionaries keep ")


def test_cases_are_those_of_all_dictionaries(model: LanguageModel, task: Task) -> None:
    prompts = tuple(replace(one, case="ab"[row % 3 == 0]) for row, one in enumerate(task.test.prompts))
    named = replace(task, test=replace(task.test, prompts=prompts))
    study = study_of(model, named)
    cases = kept_task(study).cases
    metric, own = study.evaluator.dictionaries.metric.double(), study.evaluator.full.prompt_metrics.metric.double()
    assert [(case.name, case.prompts) for case in cases] == [
        (name, sum(prompt.case == name for prompt in prompts)) for name in ("a", "b")
    ]
    for case in cases:
        rows = [row for row, prompt in enumerate(prompts) if prompt.case == case.name]
        expected = (metric[rows].mean() / own[rows].mean()).item()
        assert case.circuit.faithfulness.value == pytest.approx(expected, rel=1e-9)


def test_prompts_that_dictionaries_were_fine_tuned_on_are_said(model: LanguageModel) -> None:
    task = able_task(model)
    prompts = tuple(
        replace(one, clean=(Piece(f"clean {row}"),), counterfactual=(Piece(f"other {row}"),))
        for row, one in enumerate(task.test.prompts)
    )
    task = replace(task, test=replace(task.test, prompts=prompts))
    assert prompts_seen(study_of(model, task)) == ()
    texts = [text_digest(task.test.prompts[row].texts[row % 2]) for row in (0, 1)]
    seen = study_of(model, task, training={"finetuned": [{"prompts": {"texts_sha256": texts}}]})
    (said,) = prompts_seen(seen)
    assert f"on 2 of the {len(task.test)} held-out prompts" in said
    assert said in kept_task(seen).cautions


def test_a_task_that_the_model_cannot_do_is_refused(model: LanguageModel, task: Task) -> None:
    study = study_of(model, task)
    with pytest.raises(GossamerError, match="cannot do"):
        kept_task(replace(study, settings=replace(study.settings, minimum_accuracy=1.0), task=swapped(task)))


def swapped(task: Task) -> Task:
    """The same with right and wrong answers exchanged."""
    sides = (replace(one, answer=one.incorrect, incorrect=one.answer) for one in (task.train, task.test))
    train, test = sides
    return replace(task, train=train, test=test)
