"""The tiny float64 network of tests of circuits and a task that it can do, made once."""

from dataclasses import replace

import pytest
from circuit_lab import SETTINGS, able_task, mirror_dictionary, sites_of
from tiny_splice import tiny_model

from gossamer.circuits.study import Study
from gossamer.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt import Piece
from gossamer.tasks.task import Task


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    return tiny_model()


@pytest.fixture(scope="session")
def task(model: LanguageModel) -> Task:
    return able_task(model)


@pytest.fixture(scope="session")
def dictionaries() -> dict[Site, Dictionary]:
    return {
        site: mirror_dictionary(site, seed=seed) for seed, site in enumerate(sites_of("resid_post.1", "resid_post.2"))
    }


@pytest.fixture(scope="session")
def study(model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task) -> Study:
    return Study(model, dictionaries, task, SETTINGS)


@pytest.fixture(scope="session")
def named(model: LanguageModel, dictionaries: dict[Site, Dictionary]) -> Study:
    """A study of prompts with ten names, four prompts each."""
    task = able_task(model, n_train=40)
    prompts = tuple(
        replace(prompt, clean=(Piece("One"), Piece(f" name{row % 10}", "A")), counterfactual=(Piece(f"other{row}"),))
        for row, prompt in enumerate(task.train.prompts)
    )
    first = dict(list(dictionaries.items())[:1])
    task = replace(task, train=replace(task.train, prompts=prompts))
    return Study(model, first, task, replace(SETTINGS, validation=0.3))
