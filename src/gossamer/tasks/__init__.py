"""Prompts with answers, counterfactuals and roles: generated for any tokenizer, or read from files."""

from gossamer.tasks.build import TaskWarning
from gossamer.tasks.generators import GENERATORS, Generator, get
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tasks.published import load_published, open_task
from gossamer.tasks.task import Task

__all__ = [
    "GENERATORS",
    "Generator",
    "Piece",
    "Prompt",
    "PromptPairs",
    "Task",
    "TaskWarning",
    "TokenizedPrompts",
    "get",
    "load_published",
    "open_task",
]
