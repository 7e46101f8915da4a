"""What the circuit benchmarks share: models with their dictionaries and tasks."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import say

from gossamer import bundled
from gossamer.dictionary import DictionarySet
from gossamer.model import LanguageModel
from gossamer.tasks import Task, get, load_published, open_task
from gossamer.training import read_texts, recipe_for, train_dictionaries

REAL = Path(os.environ.get("GOSSAMER_REAL", Path(__file__).parents[2] / "shared" / "real"))
BUNDLED_TASKS = ("ioi", "sva-simple", "sva-rc", "sva-within-rc", "sva-nounpp", "code-index", "code-key")


@dataclass(frozen=True)
class Setting:
    """One model with its dictionaries, and its tasks by name."""

    name: str
    model: LanguageModel
    dictionaries: DictionarySet
    tasks: dict[str, Task]


def settings(which: str, only: str | None = None) -> Iterator[Setting]:
    """The bundled model and the real ones that are there.

    Args:
        which: "bundled", "tinytalk", "stories260k" or "all".
        only: one task by name.
    """
    if which in ("bundled", "all"):
        yield _bundled(only)
    for name, folder, tasks in (
        ("tinytalk", "tinytalk-3m-gpt2", _tinytalk),
        ("stories260k", "stories260k", _stories),
    ):
        if which in (name, "all"):
            if not (REAL / "models" / folder).is_dir():
                say(f"{name}: left out, no folder {REAL / 'models' / folder} (set GOSSAMER_REAL)", as_json=True)
                continue
            model = LanguageModel.load(REAL / "models" / folder)
            yield Setting(name, model, trained(model), _only(tasks(model.tokenizer), only))


def own(model: str, dictionaries: list[str], task: str, n: int | None = None, *, bos: bool = True) -> Setting:
    """Somebody's own model, dictionaries and task; of one by name `n` prompts."""
    network = LanguageModel.load(model)
    given = ({} if n is None else {"n": n}) | ({} if bos else {"bos": False})
    found = open_task(task, network.tokenizer, split_by=None, **given)
    return Setting(Path(model).name, network, DictionarySet.load(dictionaries), {found.name: found})


def trained(model: LanguageModel) -> DictionarySet:
    """Dictionaries of a real model by its recipe: read from the cache, or trained now (resumable)."""
    recipe = recipe_for(model)
    texts = read_texts(REAL / "text" / "tinystories_train.jsonl")
    return train_dictionaries(model, texts, recipe.sites, recipe.config)


def _bundled(only: str | None) -> Setting:
    model = LanguageModel.load("bundled:spool")
    names = [name for name in BUNDLED_TASKS if only in (None, name)]
    tasks = {name: get(name).generate(model.tokenizer, bos=True, split_by=None) for name in names}
    return Setting("bundled", model, DictionarySet.load(bundled.path("spool") / "dictionaries"), tasks)


def _tinytalk(tokenizer: Any) -> dict[str, Task]:
    agreement = REAL / "tasks" / "feature_circuits"
    return {
        "ioi": load_published(REAL / "tasks" / "ioi_met.jsonl", tokenizer, bos=False, split_by=None),
        "pronoun": load_published(
            REAL / "tasks" / "gender_pronoun.jsonl", tokenizer, bos=False, test_fraction=0.35, split_by=None
        ),
        "sva-simple": load_published(
            agreement / "simple_train.json", tokenizer, bos=True, test_fraction=0.35, split_by=None
        ),
        "sva-within-rc": load_published(agreement / "within_rc_test.json", tokenizer, bos=True, split_by=None),
        # The model follows the nearest noun: a negative control, to be refused before any search.
        "sva-nounpp": load_published(agreement / "nounpp_test.json", tokenizer, bos=True, split_by=None),
    }


def _stories(tokenizer: Any) -> dict[str, Task]:
    path = REAL / "tasks" / "gender_pronoun.jsonl"
    return {"pronoun": load_published(path, tokenizer, test_fraction=0.35, split_by=None)}


def _only(tasks: dict[str, Task], only: str | None) -> dict[str, Task]:
    return {name: task for name, task in tasks.items() if only in (None, name)}
