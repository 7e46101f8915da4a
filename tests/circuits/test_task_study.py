"""A study of two tasks: what goes on where it stopped, what is refused and said, and who needs how many nodes."""

from collections.abc import Collection
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from circuit_lab import SETTINGS

from gossamer import bundled
from gossamer.circuits.curve import Curve
from gossamer.circuits.find import CircuitResult
from gossamer.circuits.findings import collect_findings
from gossamer.circuits.results import Findings
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.task_study import FORMAT, RESULTS, TaskStudy, TaskStudySettings, needed_nodes, study_tasks
from gossamer.dictionary import Dictionary, DictionarySet
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks import get
from gossamer.tasks.task import PromptPairs, Task

CHOSEN = TaskStudySettings(
    share=0.8, size=12, settings=SETTINGS, search=SearchSettings(sizes=(20, 6), steps=20, batch_size=6)
)


def impossible(task: Task) -> Task:
    """The right and the wrong answers exchanged: the model is always wrong."""
    sides = {
        side: replace(found, answer=found.incorrect, incorrect=found.answer)
        for side, found in (("train", task.train), ("test", task.test))
    }
    return replace(task, name="the other way round", **sides)


@pytest.fixture
def measured() -> list[str]:
    return []


@pytest.fixture
def given(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, tmp_path: Path, measured: list[str]
) -> dict[str, Any]:
    def measure(found: CircuitResult, folder: Path, unseen: Task | None) -> None:
        assert unseen is None
        measured.append(found.circuit.task)
        methods = ["integrated gradients", "integrated gradients, signed", "random"]
        collect_findings(found, methods=methods, reruns=0, subsets=1).save(folder / "findings.json")

    last = dict(list(dictionaries.items())[1:])
    tasks = [task, impossible(task), replace(task, name="again")]
    return {
        "model": model,
        "dictionaries": last,
        "tasks": tasks,
        "folder": tmp_path,
        "chosen": CHOSEN,
        "measure": measure,
    }


def test_a_study_goes_on_where_it_stopped_and_says_what_was_refused(given: dict[str, Any], measured: list[str]) -> None:
    first = study_tasks(**{**given, "tasks": given["tasks"][:2]})
    assert measured == ["by hand"]
    assert list(first.findings) == ["by hand"]
    done, refused = first.tasks
    assert done.folder == "by-hand"
    assert "cannot do the other way round" in refused.refused
    assert not (given["folder"] / "the-other-way-round").exists()
    again = study_tasks(**given)
    assert measured == ["by hand", "again"], "what was there is not done again"
    assert again.tasks[:2] == first.tasks
    assert list(again.findings) == ["by hand", "again"]
    loaded = TaskStudy.load(given["folder"])
    assert loaded.tasks == again.tasks
    assert [row for _, row in loaded.rows] == [row for _, row in again.rows]
    sizes = [row.size for name, row in again.rows if name == "again"]
    candidates = int(again.findings["again"].settings["candidates"])
    assert sizes[0] == candidates, "every size up to all candidates"
    assert sizes == sorted(set(sizes), reverse=True)
    assert set(again.by_family) == {"integrated gradients", "random", "chosen on validation"}
    assert len(again.by_family["random"]) == len(again.rows)
    ours = next(one for one in again.by_method if one.method == "mask")
    assert (ours.rows, ours.behind) == (len(again.rows), sum(row.behind for _, row in again.rows)), "as beside the best"


def test_a_task_of_which_the_dictionaries_keep_nothing_is_refused_and_the_others_go_on(
    given: dict[str, Any], measured: list[str]
) -> None:
    [(site, whole)] = given["dictionaries"].items()
    against = deepcopy(whole)
    with torch.no_grad():
        against.W_dec.neg_()
    done = study_tasks(**{**given, "dictionaries": {site: against}})
    assert [row.name for row in done.tasks] == [task.name for task in given["tasks"]]
    assert "the dictionaries together keep -" in done.tasks[0].refused
    assert "cannot do the other way round" in done.tasks[1].refused
    assert not measured


def test_a_circuit_that_takes_more_nodes_than_allowed_is_of_the_size_that_is_given(given: dict[str, Any]) -> None:
    one = {**given, "tasks": given["tasks"][:1]}
    free = study_tasks(**{**one, "folder": given["folder"] / "free"})
    needed = len(free.findings["by hand"].nodes)
    assert not free.tasks[0].missed
    same = study_tasks(**{**one, "folder": given["folder"] / "same", "chosen": replace(CHOSEN, most=needed)})
    assert len(same.findings["by hand"].nodes) == needed
    bound = replace(CHOSEN, most=needed - 1, size=4)
    [row] = (found := study_tasks(**{**one, "folder": given["folder"] / "bound", "chosen": bound})).tasks
    assert f"takes {needed} nodes, more than the {needed - 1} allowed" in row.missed
    assert len(found.findings["by hand"].nodes) <= 4
    with pytest.raises(UsageError, match="most: at least 1 node expected, found 0"):
        TaskStudySettings(most=0)


def test_other_settings_other_prompts_and_tasks_of_one_name_are_refused(given: dict[str, Any], task: Task) -> None:
    one = {**given, "tasks": [impossible(task)]}
    study_tasks(**one)
    with pytest.raises(UsageError, match=r"holds another study \(other share\)"):
        study_tasks(**{**one, "chosen": replace(CHOSEN, share=0.7)})
    fewer = replace(impossible(task), train=task.train.select(range(10)))
    with pytest.raises(UsageError, match="holds the other way round of other prompts"):
        study_tasks(**{**one, "tasks": [fewer]})
    with pytest.raises(UsageError, match="tasks of different names expected"):
        study_tasks(**{**one, "tasks": [task, replace(task, name="by-hand")]})
    with pytest.raises(UsageError, match="share: a share above 0, at most 1"):
        TaskStudySettings(share=0.0)


def test_nodes_needed_by_hand(given: dict[str, Any]) -> None:
    found = study_tasks(**{**given, "tasks": given["tasks"][:1]}).findings["by hand"]

    def kept(method: str, values: dict[int, float]) -> Curve:
        point = found.curves[0].points[0]
        share = point.task_metrics.faithfulness
        points = tuple(
            replace(
                point, size=size, task_metrics=replace(point.task_metrics, faithfulness=replace(share, value=value))
            )
            for size, value in values.items()
        )
        return Curve(method, points, 0.0, 0.0, 0.0)

    dictionaries = found.budget[-3]
    budget = [*found.budget]
    budget[-3] = replace(dictionaries, faithfulness=replace(dictionaries.faithfulness, value=0.8))
    known: Findings = replace(
        found,
        budget=tuple(budget),
        curves=(
            kept("mask", {100: 0.8, 40: 0.77, 20: 0.75, 10: 0.79}),
            kept("integrated gradients", {100: 0.8, 60: 0.7}),
            kept("integrated gradients, signed", {100: 0.8, 60: 0.78, 30: 0.1}),
            kept("attribution patching", {5: 1.0}),
        ),
    )
    assert needed_nodes(known, 0.95) == (40, 60), "a smaller one that keeps it by chance does not count"
    assert needed_nodes(known, 1.2) == (None, None)


@pytest.fixture
def set_aside(tmp_path: Path) -> dict[str, Any]:
    """A study on the bundled model in which two templates are set aside and nothing may be measured."""

    def never(found: CircuitResult, folder: Path, unseen: Task | None) -> None:
        raise AssertionError(f"{found} was searched")

    model = LanguageModel.load("bundled:spool", device="cpu")
    return {
        "model": model,
        "dictionaries": DictionarySet.load(bundled.path("spool") / "dictionaries"),
        "tasks": [get("ioi").generate(model.tokenizer, n=160, seed=1, bos=True)],
        "folder": tmp_path / "study",
        "chosen": replace(CHOSEN, unseen_templates="2"),
        "measure": never,
    }


def test_tasks_with_too_few_templates_are_named_before_anything_is_searched(set_aside: dict[str, Any]) -> None:
    tokenizer = set_aside["model"].tokenizer
    lacking = [get(name).generate(tokenizer, n=40, seed=1, bos=True) for name in ("sva-rc", "code-key")]
    mixed = {**set_aside, "tasks": [lacking[0], *set_aside["tasks"], lacking[1]]}
    with pytest.raises(UsageError, match=r"task sva-rc: several templates.*; or leave out sva-rc, code-key$"):
        study_tasks(**mixed)
    with pytest.raises(UsageError, match=r"task sva-rc: several templates.*more templates$"):
        study_tasks(**{**set_aside, "tasks": lacking})
    for wanted in ("0", "-1", "7", ""):
        with pytest.raises(UsageError, match=f"task ioi: from 1 to 6 of its templates expected.*found '{wanted}'$"):
            study_tasks(**{**set_aside, "chosen": replace(CHOSEN, unseen_templates=wanted)})
    assert not set_aside["folder"].exists()


def wrong_on(task: Task, templates: Collection[str]) -> Task:
    """The right and the wrong answers exchanged in the prompts of some templates, from which their tasks are made."""

    def exchanged(side: PromptPairs) -> PromptPairs:
        swapped = [replace(one, answer=one.incorrect, incorrect=one.answer) for one in side.prompts]
        kept = zip(side.prompts, swapped, strict=True)
        return replace(side, prompts=tuple(two if two.template in templates else one for one, two in kept))

    return replace(task, train=exchanged(task.train), test=exchanged(task.test))


def test_a_task_whose_unseen_templates_the_model_cannot_do_is_refused_without_a_search(
    set_aside: dict[str, Any],
) -> None:
    [whole] = set_aside["tasks"]
    unseen = whole.of_templates(whole.templates[-2:], set_aside["model"].tokenizer)
    [row] = study_tasks(**{**set_aside, "tasks": [wrong_on(whole, unseen.templates)]}).tasks
    assert row.refused.startswith(f"unseen templates {', '.join(unseen.templates)}: bundled:spool cannot do ioi: ")
    assert row.refused.endswith("or set other templates aside")
    assert (row.training, row.held_out) == (len(whole.train) - len(unseen.train), len(whole.test) - len(unseen.test))


def test_a_study_of_other_unseen_templates_is_another_study(set_aside: dict[str, Any]) -> None:
    [whole] = set_aside["tasks"]
    weak = {**set_aside, "tasks": [wrong_on(whole, whole.templates)]}
    first = study_tasks(**weak)
    assert first.tasks[0].refused.startswith("bundled:spool cannot do ioi: ")
    assert study_tasks(**weak).tasks == first.tasks
    for other in ("1", None):
        with pytest.raises(UsageError, match=r"holds another study \(other unseen_templates\)"):
            study_tasks(**{**weak, "chosen": replace(CHOSEN, unseen_templates=other)})
    with pytest.raises(UsageError, match="holds ioi of other prompts"):
        study_tasks(**{**weak, "tasks": [get("ioi").generate(set_aside["model"].tokenizer, n=80, seed=2, bos=True)]})


def test_studies_of_before_unseen_templates_go_on_without_them(given: dict[str, Any], task: Task) -> None:
    one = {**given, "tasks": [impossible(task)]}
    first = study_tasks(**one)
    path = given["folder"] / RESULTS
    record = FORMAT.load(path)
    older = {name: value for name, value in record.settings.items() if name != "unseen_templates"}
    assert len(older) < len(record.settings)
    FORMAT.save(path, replace(record, settings=older))
    assert study_tasks(**one).tasks == first.tasks
