"""A search that is kept: the same request has the same result without a search, any other one searches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from circuit_lab import SEARCH, SETTINGS

from gossamer.circuits import kept_search
from gossamer.circuits.find import CircuitResult
from gossamer.circuits.findings import collect_findings
from gossamer.circuits.kept_search import FILE, FORMAT, KeptSearch, find_circuit_once
from gossamer.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.results.values import to_json
from gossamer.tasks.task import Task


@pytest.fixture
def asked(model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task) -> tuple[object, ...]:
    return model, dict(list(dictionaries.items())[1:]), task


def once(folder: Path, asked: tuple[object, ...], **changed: object) -> CircuitResult:
    how = {"size": 15, "settings": SETTINGS, "search": SEARCH, **changed}
    return find_circuit_once(folder, *asked, **how)  # type: ignore[arg-type]


def test_the_same_request_has_the_same_result_without_a_search(
    asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = once(tmp_path, asked)
    monkeypatch.setattr(kept_search, "find_circuit", None)
    again = once(tmp_path, asked)
    assert again.circuit == first.circuit
    assert again.nodes.keys() == first.nodes.keys()
    assert (again.search, again.path.settings, again.path.method) == (first.search, first.path.settings, "mask")
    assert torch.equal(again.effects.weights, first.effects.weights)
    for kept, found in zip(again.path.circuits, first.path.circuits, strict=True):
        assert torch.equal(kept, found)
    # Everything that is reported follows from these.
    told = [collect_findings(one, methods=["random"], reruns=1) for one in (first, again)]
    # How long the random ranking took is no result.
    timeless = [replace(one, curves=tuple(replace(curve, seconds=0.0) for curve in one.curves)) for one in told]
    assert to_json(timeless[0]) == to_json(timeless[1])


def test_scores_of_the_candidates_come_back(asked: tuple[object, ...], tmp_path: Path) -> None:
    first = once(tmp_path, asked)
    scores = torch.linspace(-1, 1, len(first.path.nodes), dtype=torch.float32)
    ranked = replace(first, path=replace(first.path, scores=scores))
    FORMAT.save(tmp_path / FILE, KeptSearch.of("", ranked))
    again = FORMAT.load(tmp_path / FILE).result(first.study).path.scores
    assert again is not None
    assert again.dtype == scores.dtype
    assert torch.equal(again, scores)


def test_any_other_request_is_searched(
    asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(tmp_path, asked)
    monkeypatch.setattr(kept_search, "find_circuit", None)
    model, dictionaries, task = asked
    for changed in (
        {"size": 14},
        {"size": None, "faithfulness": 0.8},
        {"recipe": "reference"},
        {"settings": replace(SETTINGS, ablation="zero")},
        {"search": replace(SEARCH, seed=SEARCH.seed + 1)},
    ):
        with pytest.raises(TypeError, match="not callable"):
            once(tmp_path, asked, **changed)
    assert isinstance(task, Task)
    fewer = replace(task, test=task.test.select(torch.arange(len(task.test) - 1)))
    with pytest.raises(TypeError, match="not callable"):
        once(tmp_path, (model, dictionaries, fewer))


@pytest.mark.parametrize("damage", ["", "{", '{"format": "gossamer.circuit_search.99"}'])
def test_a_file_that_cannot_be_read_is_replaced(
    asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    first = once(tmp_path, asked)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_text(damage)
    monkeypatch.setattr(kept_search, "find_circuit", lambda *_, **__: first)
    assert once(tmp_path, asked) is first
    assert (tmp_path / FILE).read_bytes() == whole
