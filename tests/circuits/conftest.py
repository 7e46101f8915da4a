"""The tiny float64 network of tests of circuits and a task that it can do, made once."""

import pytest
from circuit_lab import able_task
from tiny_splice import tiny_model

from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    return tiny_model()


@pytest.fixture(scope="session")
def task(model: LanguageModel) -> Task:
    return able_task(model)
