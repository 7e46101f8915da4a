"""Circuits on templates that no search saw are measured as a circuit on any other prompts is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gossamer import bundled
from gossamer.circuits.evaluate.rerun import evaluate_circuit
from gossamer.circuits.evaluate.unseen_templates import on_unseen_templates
from gossamer.circuits.find import CircuitResult, find_circuit
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import StudySettings
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks import get
from gossamer.tasks.task import Task
from gossamer.tasks.unseen_templates import set_aside

SIZE = 30


@pytest.fixture(scope="module")
def spool() -> LanguageModel:
    return LanguageModel.load("bundled:spool", device="cpu")


@pytest.fixture(scope="module")
def whole(spool: LanguageModel) -> Task:
    return get("ioi").generate(spool.tokenizer, n=160, seed=1, bos=True, split_by="word")


@pytest.fixture(scope="module")
def found(spool: LanguageModel, whole: Task) -> tuple[CircuitResult, Task]:
    """A circuit of all templates but two, and the task of these two."""
    seen, unseen = set_aside(whole, "2", spool.tokenizer)
    settings = StudySettings(batch_size=32, seed=2, minimum_accuracy=0.5)
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    search = SearchSettings(steps=3, seed=2)
    return find_circuit(spool, dictionaries, seen, size=SIZE, settings=settings, search=search), unseen


def test_it_is_the_circuit_evaluated_on_the_other_task(found: tuple[CircuitResult, Task], tmp_path: Path) -> None:
    circuit, unseen = found
    here = on_unseen_templates(circuit, unseen)
    path = circuit.circuit.save(tmp_path / "circuit.json")
    there = evaluate_circuit(path, task=unseen)
    assert here.lacking == 0
    assert here.prompts == len(unseen.test) == there.prompts
    assert here.budget == there.metrics
    assert here.templates == unseen.templates


def test_other_methods_have_the_size_of_the_circuit(found: tuple[CircuitResult, Task]) -> None:
    circuit, unseen = found
    at_its_size = replace(circuit.search, sizes=[len(circuit.nodes)])
    others = circuit.study.paths(["random", "activation difference"], at_its_size)
    here = on_unseen_templates(circuit, unseen, others)
    assert [row.name for row in here.others] == ["random", "activation difference"]
    # The circuit as if it were another method's: the same numbers.
    same = CircuitPath("circuit", circuit.nodes, (torch.arange(len(circuit.nodes)),), 0.0)
    assert on_unseen_templates(circuit, unseen, [same]).others == (here.budget[-2],)


def test_no_search_sees_a_prompt_or_a_name_of_them(whole: Task, spool: LanguageModel) -> None:
    seen, unseen = set_aside(whole, "2", spool.tokenizer)
    assert not set(seen.templates) & set(unseen.templates)
    assert set(seen.templates) | set(unseen.templates) == set(whole.templates)
    for side in ("train", "test"):
        parts = [one.key for task in (seen, unseen) for one in getattr(task, side).prompts]
        assert sorted(parts) == sorted(one.key for one in getattr(whole, side).prompts)

    def names(task: Task, side: str) -> set[str]:
        prompts = getattr(task, side).prompts
        return {piece.text.strip() for one in prompts for piece in one.clean if piece.role in ("IO", "S1", "S2")}

    assert names(unseen, "test")
    assert not names(unseen, "test") & names(seen, "train")


def test_templates_by_name_and_what_is_refused(whole: Task, spool: LanguageModel) -> None:
    first, second, *rest = whole.templates
    seen, unseen = set_aside(whole, f"{second}, {first}", spool.tokenizer)
    assert set(unseen.templates) == {first, second}
    assert set(seen.templates) == set(rest)
    assert unseen.provenance["templates"] == sorted([first, second])
    for wanted in ("0", "-1", "", str(len(whole.templates)), ",".join(whole.templates), "99"):
        with pytest.raises(UsageError, match=f"from 1 to {len(whole.templates) - 1} of its templates"):
            set_aside(whole, wanted, spool.tokenizer)
    alone = whole.of_templates([first], spool.tokenizer)
    for wanted in ("1", "99", first):
        with pytest.raises(UsageError, match="several templates expected, of which some are set aside, found one"):
            set_aside(alone, wanted, spool.tokenizer)
    with pytest.raises(UsageError, match="no template 'nothing'"):
        set_aside(whole, "nothing", spool.tokenizer)


def test_nodes_at_roles_that_the_templates_lack_are_counted(found: tuple[CircuitResult, Task]) -> None:
    whole, unseen = found
    candidates, lost = whole.path.nodes, "S2"
    some = [torch.nonzero(candidates.role == candidates.roles.index(role)).squeeze(1)[:3] for role in ("END", lost)]
    circuit = replace(whole, nodes=candidates.select(torch.cat(some)))
    keys = circuit.nodes.keys()
    fewer = replace(unseen, role_names=tuple("gone" if role == lost else role for role in unseen.role_names))
    here = on_unseen_templates(circuit, fewer)
    assert here.lacking == sum(key.role == lost for key in keys) == 3
    nothing = replace(unseen, role_names=tuple(f"other {role}" for role in unseen.role_names))
    with pytest.raises(GossamerError, match=r"a role of the others expected \(.*\), found other .* alone"):
        on_unseen_templates(circuit, nothing)
    # What has nodes at these roles alone is worth there as much as no node.
    elsewhere = on_unseen_templates(replace(whole, nodes=candidates.select(some[1])), fewer)
    assert elsewhere.lacking == 3
    assert elsewhere.budget[-2].faithfulness == elsewhere.budget[-1].faithfulness
