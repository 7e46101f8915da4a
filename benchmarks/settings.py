"""What the circuit benchmarks share: models with their dictionaries and tasks, and the options that choose them."""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import say

from gossamer import bundled
from gossamer.circuits.bootstrap import few_texts
from gossamer.dictionary import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.model import LanguageModel
from gossamer.tasks import Task, get, load_published, open_task
from gossamer.tasks.published import is_file
from gossamer.training import read_texts, recipe_for, train_dictionaries

REAL = Path(os.environ.get("GOSSAMER_REAL", Path(__file__).parents[2] / "shared" / "real"))
SHIPPED = ("bundled", "tinytalk", "stories260k")
BUNDLED_TASKS = ("ioi", "sva-simple", "sva-rc", "sva-within-rc", "sva-nounpp", "code-index", "code-key")


@dataclass(frozen=True)
class Setting:
    """One model with its dictionaries, and its tasks by name."""

    name: str
    model: LanguageModel
    dictionaries: DictionarySet
    tasks: dict[str, Task]


def add_setting(made: argparse.ArgumentParser, model: str = "bundled") -> None:
    """The options of a benchmark that say which model, dictionaries and tasks :func:`settings` gives."""
    models = f"{', '.join(SHIPPED)}, all, or with -d any model's name or folder"
    made.add_argument("--model", default=model, help=f"{models}; default: {model}")
    made.add_argument(
        "-d", "--dictionaries", action="append", help="of a model of your own; repeat for several folders"
    )
    made.add_argument(
        "-t", "--task", action="append", help="a task by name, or with -d a file of prompts; repeat for several"
    )
    made.add_argument("-n", type=int, help="with -d: how many prompts of a task by name")
    made.add_argument("--no-bos", action="store_true", help="with -d: prompts without a beginning-of-sequence token")


def settings(options: argparse.Namespace) -> Iterator[Setting]:
    """What the options of :func:`add_setting` choose: somebody's own, or the bundled model and the real ones there are.

    Raises:
        UsageError: a model without dictionaries, or the other way round; no such model is there, or none has the tasks.
        GossamerError: something that cannot be read.
    """
    if options.dictionaries:
        if options.model in (*SHIPPED, "all"):
            raise UsageError(
                f"--model: with -d the name or folder of a model expected (that of the bundled one is bundled:spool), "
                f"found {options.model}"
            )
        yield own(options.model, options.dictionaries, options.task or ["ioi"], options.n, bos=not options.no_bos)
        return
    if options.model not in (*SHIPPED, "all"):
        raise UsageError(f"--model: one of {', '.join(SHIPPED)} expected, or dictionaries (-d), found {options.model}")
    # What the prompts that are published leave out is known.
    warnings.simplefilter("ignore")
    found = False
    for setting in _shipped(options.model, options.task):
        found = True
        yield setting
    if options.task and not found:
        raise UsageError(
            f"--task: one that {options.model} has expected, found {', '.join(options.task)}; other tasks and files of "
            "prompts need -d"
        )


def own(
    model: str, dictionaries: Sequence[str], tasks: Sequence[str], n: int | None = None, *, bos: bool = True
) -> Setting:
    """Somebody's own model, dictionaries and tasks; of those by name `n` prompts each."""
    network = LanguageModel.load(model)
    given: dict[str, Any] = {"split_by": None} | ({} if bos else {"bos": False})
    # Prompts in a file are as many as there are.
    counts = [{} if n is None or is_file(task) else {"n": n} for task in tasks]
    found = [open_task(task, network.tokenizer, **given, **count) for task, count in zip(tasks, counts, strict=True)]
    named = {task.name: task for task in found}
    if len(named) < len(found):
        raise UsageError(f"--task: tasks of different names expected, found {', '.join(task.name for task in found)}")
    return Setting(Path(model).name, network, DictionarySet.load(dictionaries), named)


def cautions(title: str, task: Task) -> list[str]:
    """What makes rows about a task no findings, said at once on the error stream too."""
    found = [f"{title}: {sentence}" for sentence in few_texts(task.test)]
    for sentence in found:
        say(f"CAUTION: {sentence}", as_json=True)
    return found


@contextlib.contextmanager
def refused_in_one_line(title: str) -> Iterator[None]:
    """Goes on without a task that is refused, and says why on the error stream."""
    try:
        yield
    except GossamerError as error:
        say(f"{title}: refused: {error}", as_json=True)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Ends the benchmark with what cannot be done, in one line, and exit code 1."""
    try:
        yield
    except GossamerError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def trained(model: LanguageModel) -> DictionarySet:
    """Dictionaries of a real model by its recipe: read from the cache, or trained now (resumable)."""
    recipe = recipe_for(model)
    texts = read_texts(REAL / "text" / "tinystories_train.jsonl")
    return train_dictionaries(model, texts, recipe.sites, recipe.config)


def _shipped(which: str, only: Sequence[str] | None) -> Iterator[Setting]:
    """The bundled model and the real ones that are there, with the tasks of `only`."""
    if which in ("bundled", "all") and (only is None or set(only) & set(BUNDLED_TASKS)):
        yield _bundled(only)
    for name, folder, tasks in (
        ("tinytalk", "tinytalk-3m-gpt2", _tinytalk),
        ("stories260k", "stories260k", _stories),
    ):
        if which not in (name, "all"):
            continue
        if not (place := REAL / "models" / folder).is_dir():
            missing = f"{name}: a model expected in {place}, found none (set GOSSAMER_REAL)"
            if which == name:
                raise UsageError(missing)
            say(f"{missing}: left out", as_json=True)
            continue
        model = LanguageModel.load(place)
        found = {task: made for task, made in tasks(model.tokenizer).items() if only is None or task in only}
        if found:
            yield Setting(name, model, trained(model), found)


def _bundled(only: Sequence[str] | None) -> Setting:
    model = LanguageModel.load("bundled:spool")
    names = [name for name in BUNDLED_TASKS if only is None or name in only]
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
