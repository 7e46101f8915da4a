"""Prompts with answers, counterfactuals and roles: generated for any tokenizer, or read from files."""

from gossamer.tasks.build import TaskWarning
from gossamer.tasks.examples import Encoded, Examples
from gossamer.tasks.generators import GENERATORS, Generator, get
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.published import load_published, open_task
from gossamer.tasks.task import Task

__all__ = [
    "GENERATORS",
    "Encoded",
    "Examples",
    "Generator",
    "Piece",
    "Prompt",
    "Task",
    "TaskWarning",
    "get",
    "load_published",
    "open_task",
]
