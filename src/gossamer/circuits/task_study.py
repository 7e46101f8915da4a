"""Circuits of several tasks in one model, found and tested in one way: where they hold, where a baseline is ahead."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.circuits.curve import MethodCount, SizeComparison, behind_the_rest, best_baseline
from gossamer.circuits.evaluate.comparison import nodes_needed
from gossamer.circuits.evaluate.unseen_templates import require_unseen
from gossamer.circuits.find import CircuitResult, find_circuit
from gossamer.circuits.results import Findings
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping, by_site
from gossamer.progress import announce, part_of
from gossamer.results import Recorder, record_format, versions
from gossamer.tasks.grouping import grouped
from gossamer.tasks.task import Task
from gossamer.tasks.unseen_templates import set_aside

RESULTS = "study.json"
# A mask is to need at most this share of the nodes that integrated gradients need (by sign or size, the fewer of both).
HALF = 0.5


@dataclass(frozen=True)
class TaskStudySettings:
    """How every task is studied.

    Attributes:
        share: of what the dictionaries keep of the task on the training prompts (at most all of it), how much the
            circuit is to keep.
        size: nodes of the circuit where no size is found that keeps so much.
        most: nodes that so much may take; None for any number.
        unseen_templates: templates of every task that no search sees, by name or how many
            (:func:`gossamer.tasks.unseen_templates.set_aside`); None: none are set aside.
        settings, search: of every circuit. Circuits are searched at all sizes up to all candidates, as baselines are.
    """

    share: float = 0.95
    size: int = 100
    settings: StudySettings = StudySettings()
    search: SearchSettings = SearchSettings()
    most: int | None = None
    unseen_templates: str | None = None

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share: a share above 0, at most 1, expected, found {self.share}")
        if self.most is not None and self.most < 1:
            raise UsageError(f"most: at least 1 node expected, found {self.most}")


@dataclass(frozen=True)
class StudiedTask:
    """One task's place in a study; what was found of it is in `folder`, as a report with its findings.

    Attributes:
        name: of the task.
        folder: beside the study's file.
        wanted: faithfulness that the circuit was to have on validation prompts.
        missed: why it is of the study's fixed size instead, a sentence; "" where it met that.
        refused: why there is no circuit at all; "" where there is one.
        training, held_out: how many prompts it has, before any are left aside for speed; those of templates that are
            set aside do not count.
        seconds: wall-clock time of search and measuring.
        prompts: SHA-256 of the tokens of all of its prompts.
    """

    name: str
    folder: str
    wanted: float
    missed: str
    refused: str
    training: int
    held_out: int
    seconds: float
    prompts: str

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name
        yield self.refused or self.missed or f"keeps {self.wanted:.0%} on validation prompts"


@dataclass(frozen=True)
class TaskStudy:
    """A study as it lies on disk: the findings of every task that was not refused, in the order of the study."""

    settings: Mapping[str, Any]
    tasks: tuple[StudiedTask, ...]
    findings: Mapping[str, Findings]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.settings["model"])
        yield ", ".join(task.name for task in self.tasks)

    @classmethod
    def load(cls, folder: str | Path) -> "TaskStudy":
        """Read a study with the findings of its tasks.

        Raises:
            UsageError: no study is there.
            GossamerError: a file is damaged or missing.
        """
        folder = Path(folder)
        record = FORMAT.load(folder / RESULTS)
        found = {
            task.name: Findings.load(folder / task.folder / "findings.json") for task in record.rows if not task.refused
        }
        return cls(record.settings, record.rows, found)

    @property
    def rows(self) -> list[tuple[str, SizeComparison]]:
        """Every task and size beside the baseline that does best there."""
        return [(name, row) for name, found in self.findings.items() for row in best_baseline(found.comparisons)]

    @property
    def by_family(self) -> dict[str, list[SizeComparison]]:
        """The rows of every family of baselines, over all tasks."""
        found: dict[str, list[SizeComparison]] = {}
        for one in self.findings.values():
            for row in one.comparisons:
                found.setdefault(row.family, []).append(row)
        return found

    @property
    def by_method(self) -> list[MethodCount]:
        """Every method beside the best of all others (:func:`behind_the_rest`) over all tasks, least behind first."""
        found: dict[str, MethodCount] = {}
        for one in self.findings.values():
            for method, rows, behind in behind_the_rest(one.curves, {row.size for row in one.comparisons}):
                known = found.get(method, MethodCount(method, 0, 0))
                found[method] = MethodCount(method, known.rows + rows, known.behind + behind)
        return sorted((one for one in found.values() if one.rows), key=lambda one: one.behind / one.rows)


def needed_nodes(findings: Findings, share: float) -> tuple[int | None, int | None]:
    """Nodes that keep `share` of what the dictionaries keep (:func:`nodes_needed`)."""
    return nodes_needed(findings.curves, share * findings.budget[-3].faithfulness.value)


def study_tasks(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    tasks: Sequence[Task],
    folder: str | Path,
    chosen: TaskStudySettings,
    measure: Callable[[CircuitResult, Path, Task | None], object],
    how: Mapping[str, Any] | None = None,
) -> TaskStudy:
    """Find and test a circuit for every task; what there is already is not done again.

    Args:
        model, dictionaries: everyone's.
        tasks: with names that differ.
        folder: gets study.json and a folder a task. Hold it with :func:`gossamer.results.folder_lock` meanwhile.
        chosen: see :class:`TaskStudySettings`.
        measure: measures a circuit in full, on the task of the unseen templates too if there are any, and writes its
            findings into the folder that it is given.
        how: what else the findings depend on; a study goes on only under the same.

    Raises:
        UsageError: two tasks of one name, tasks with too few templates of which some are to be set aside, other
            settings or prompts than the study in `folder` has.
        GossamerError: a file is damaged or cannot be written.
    """
    folder, sites = Path(folder), by_site(dictionaries)
    if len(set(map(_folder, tasks))) < len(tasks):
        raise UsageError(f"study: tasks of different names expected, found {', '.join(task.name for task in tasks)}")
    prompts = _set_aside(tasks, chosen.unseen_templates, model.tokenizer)
    settings = {
        "model": model.title,
        "weights": weights_sha256(model.hf),
        "dictionaries": {str(site): weights_sha256(one) for site, one in sites.items()},
        **asdict(chosen),
        **(how or {}),
    }
    recorder = Recorder(folder / RESULTS, FORMAT, settings, {"versions": versions()})
    known = {row.name: row for row in recorder.rows}
    for number, given in enumerate(prompts, start=1):
        name = given.task.name
        if name not in known:
            with part_of(f"{name} (task {number} of {len(tasks)})"):
                recorder.add(_studied(model, sites, given, folder, chosen, measure))
        elif known[name].prompts != given.digest:
            raise UsageError(f"{folder}: holds {name} of other prompts; use the same, or choose another folder")
    return TaskStudy.load(folder)


class _TaskPrompts(NamedTuple):
    """The task that circuits are searched for, its unseen templates (None: none), and the SHA-256 of both's tokens."""

    task: Task
    unseen: Task | None
    digest: str


def _set_aside(tasks: Sequence[Task], wanted: str | None, tokenizer: Any) -> list[_TaskPrompts]:
    """Every task without the templates that are set aside; all tasks that have too few of them are named at once."""
    found, refused = [], {}
    for task in tasks:
        digest = task.body()["tokens_sha256"]
        try:
            seen, unseen = (task, None) if wanted is None else set_aside(task, wanted, tokenizer)
            found.append(_TaskPrompts(seen, unseen, digest))
        except UsageError as error:
            refused[task.name] = error
    if refused:
        first = next(iter(refused.values()))
        raise UsageError(f"{first}; or leave out {', '.join(refused)}" if found else str(first))
    return found


def _folder(task: Task) -> str:
    """A task's name as one of a folder, on any system."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", task.name).strip("-") or "task"


def _studied(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    prompts: _TaskPrompts,
    folder: Path,
    chosen: TaskStudySettings,
    measure: Callable[[CircuitResult, Path, Task | None], object],
) -> StudiedTask:
    began, task = time.perf_counter(), prompts.task
    row = StudiedTask(task.name, _folder(task), 0.0, "", "", len(task.train), len(task.test), 0.0, prompts.digest)
    search = replace(chosen.search, larger=True)
    try:
        study = Study(model, by_site(dictionaries), grouped(task, chosen.settings.masks), chosen.settings)
        if prompts.unseen is not None:
            require_unseen(study, prompts.unseen)
        study.require_ability()
        study.require_dictionaries()
        row = replace(row, wanted=chosen.share * min(study.task_share, 1.0))
        aim: dict[str, Any] = {"settings": chosen.settings, "search": search}
        try:
            found = find_circuit(model, dictionaries, task, faithfulness=row.wanted, most=chosen.most, **aim)
        except UsageError:
            raise
        except GossamerError as error:
            row = replace(row, missed=str(error))
            size = min(chosen.size, len(study.nodes) - 1)
            found = find_circuit(model, dictionaries, task, size=size, **aim)
    except UsageError:
        raise
    except GossamerError as error:
        announce(lambda: f"{task.name}: refused: {error}")
        return replace(row, refused=str(error), seconds=time.perf_counter() - began)
    measure(found, folder / row.folder, prompts.unseen)
    return replace(row, seconds=time.perf_counter() - began)


FORMAT = record_format("gossamer.task_study", 1, StudiedTask, "a study of circuits")
