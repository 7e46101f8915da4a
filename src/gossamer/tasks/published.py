"""Prompt files as circuit repositories publish them, recognised by their rows and read with the options they need.

Each kind has its own trap: a case label that is the template, one that names the template together with the order of
the names, and one that reveals the answer and must not be used as a template at all.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.tasks.generators import get
from gossamer.tasks.labels import mentions
from gossamer.tasks.reading import read_rows
from gossamer.tasks.storage import is_saved
from gossamer.tasks.task import Task

Rows = Sequence[Mapping[str, Any]]

AGREEMENT = (
    r"The (?P<subject>\w+)(?: (?P<that>that)| (?P<preposition>\w+))?"
    r"(?: the (?P<noun>\w+)(?: (?P<clause_verb>\w+))?)?"
)


@dataclass(frozen=True)
class Preset:
    """How to read one kind of file.

    Attributes:
        name: of the kind.
        fits: whether rows are of this kind.
        options: arguments of `Task.from_file`.
    """

    name: str
    fits: Callable[[Rows], bool]
    options: Mapping[str, Any]

    __repr__ = short_repr


def _cases(pattern: str) -> Callable[[Rows], bool]:
    return lambda rows: all(re.search(pattern, str(row.get("case", ""))) for row in rows)


def _is_agreement(rows: Rows) -> bool:
    numbers = _cases(r"^(singular|plural)(_(singular|plural))?$")
    texts = (str(row[side]) for row in rows for side in ("clean", "counterfactual"))
    return numbers(rows) and all(re.fullmatch(AGREEMENT, text) for text in texts)


def _names_answers(rows: Rows) -> bool:
    """Every prompt mentions its answer once and the wrong answer twice."""
    return all(
        len(mentions(row["clean"], str(row[answer]).strip())) == times
        for row in rows
        for answer, times in (("answer", 1), ("wrong", 2))
    )


def _asks_for_years(rows: Rows) -> bool:
    """Every answer is the two digits that follow the century at the end of the prompt."""
    texts = (re.search(r"\d\d$", str(row["clean"])) for row in rows)
    return all(texts) and all(re.fullmatch(r"\d\d", str(row[side])) for row in rows for side in ("answer", "wrong"))


def _is_session(rows: Rows) -> bool:
    return all(str(row["clean"]).startswith(">>> ") for row in rows)


PRESETS: tuple[Preset, ...] = (
    # The case is the order of the names and the template; both orders of a template share their means.
    Preset(
        "ioi_orders",
        lambda rows: _cases(r"^(ABBA|BABA)_")(rows) and _names_answers(rows),
        {"roles": "answers", "names": ("IO", "S"), "template_pattern": r"^(?:ABBA|BABA)_(.*)$"},
    ),
    # The case is the text with {n} for the name.
    Preset("name_in_case", _cases(r"\{n\}"), {"roles": "diff", "names": ("name",), "template_pattern": r"^.*$"}),
    # The case is the text with {x} for the subject, then the pair of verbs, which is no part of the prompt.
    Preset(
        "subject_in_case",
        _cases(r"\{x\}"),
        {"roles": "diff", "names": ("subject",), "template_pattern": r"^(.*?)(?: \w+/\w+)?$"},
    ),
    # The case is the number of the nouns, which reveals the answer; all prompts of a file share one pattern.
    Preset(
        "agreement_numbers",
        _is_agreement,
        {"roles": "pattern", "pattern": AGREEMENT, "template": lambda row: "agreement"},
    ),
    # The texts differ in the year, and in the century at the end where that of the year is another.
    Preset(
        "greater_than", _asks_for_years, {"roles": "diff", "names": ("year", "end"), "template": lambda row: "years"}
    ),
    Preset("python_session", _is_session, {"roles": "position", "template": lambda row: "session"}),
    Preset("ioi_names", _names_answers, {"roles": "answers", "names": ("IO", "S"), "template": lambda row: "ioi"}),
)


def recognise(path: str | Path, tokenizer: Any = None) -> Preset:
    """The preset that a file's rows fit. Raises :class:`UsageError` if there is none."""
    rows = read_rows(path, tokenizer)
    preset = next((preset for preset in PRESETS if preset.fits(rows)), None)
    if preset is None:
        raise UsageError(
            f"{path}: rows of a known kind expected ({', '.join(preset.name for preset in PRESETS)}), found another; "
            "use Task.from_file with roles= and template="
        )
    return preset


def load_published(path: str | Path, tokenizer: Any, **options: Any) -> Task:
    """Read a published file with the options of its kind; `options` of `Task.from_file` come on top.

    Raises:
        UsageError: the rows are of no known kind, or as :meth:`Task.from_file`.
        GossamerError: the file is damaged.
    """
    return Task.from_file(path, tokenizer, **{**recognise(path, tokenizer).options, **options})


# What a caller may give where a task is meant: the task, or what `open_task` opens.
TaskLike = Task | str | Path


def task_of(value: TaskLike, tokenizer: Any) -> Task:
    """The task itself, or the one that :func:`open_task` opens."""
    return value if isinstance(value, Task) else open_task(value, tokenizer)


def is_file(name: str | Path) -> bool:
    """Whether a task's name is that of a file: no task's name has a dot."""
    return Path(name).suffix.lower() in (".json", ".jsonl", ".csv") or Path(name).is_file()


def open_task(path: str | Path, tokenizer: Any, **options: Any) -> Task:
    """A task by its name, or from any file: one that gossamer saved, one of a published kind, or a user's own rows.

    Args:
        path: a name of :data:`gossamer.tasks.GENERATORS`, such as "ioi", or a .json, .jsonl or .csv file.
        tokenizer: a Hugging Face fast tokenizer.
        **options: of :meth:`Generator.generate` for a name, of :meth:`Task.from_file` for a file; a saved task keeps
            its own and takes none of them.

    Raises:
        UsageError, GossamerError: no task of that name, no tokenizer, or as :meth:`Generator.generate`,
            :meth:`Task.load`, :func:`load_published` and :meth:`Task.from_file`.
    """
    if tokenizer is None:
        raise UsageError(f"task {path}: a tokenizer expected, found none; load the model with tokenizer=")
    if not is_file(path):
        return get(str(path)).generate(tokenizer, **options)
    if is_saved(path):
        return Task.load(path, tokenizer)
    rows = read_rows(path, tokenizer)
    own = options.get("roles") is not None or any("roles" in row for row in rows)
    preset = None if own else next((preset for preset in PRESETS if preset.fits(rows)), None)
    return Task.from_file(path, tokenizer, **{**(preset.options if preset else {}), **options})
