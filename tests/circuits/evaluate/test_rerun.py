"""A circuit's file is enough to measure it again, to the last digit; what changed meanwhile is noticed."""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from gossamer import bundled
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.edge import Edge
from gossamer.circuits.evaluate.rerun import Difference, evaluate_circuit
from gossamer.circuits.find import find_circuit
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary import DictionarySet
from gossamer.dictionary.config import ReportedMetrics
from gossamer.errors import GossamerError, UsageError
from gossamer.files import write_json
from gossamer.model import LanguageModel
from gossamer.results import digest
from gossamer.tasks import get

SEARCH = SearchSettings(steps=3, sizes=(20,), seed=2)


def found(source: str, sets: Path, masks: str = "role") -> Circuit:
    model = LanguageModel.load(source, device="cpu")
    task = get("sva-simple").generate(model.tokenizer, n=40, seed=1, bos=True)
    settings = StudySettings(batch_size=16, seed=2, masks=masks, minimum_accuracy=0.6)
    return find_circuit(model, DictionarySet.load(sets), task, size=12, settings=settings, search=SEARCH).circuit


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return found("bundled:spool", bundled.path("spool") / "dictionaries")


@pytest.fixture
def saved(circuit: Circuit, tmp_path: Path) -> Path:
    return circuit.save(tmp_path / "circuit.json")


@pytest.fixture
def copied(circuit: Circuit, tmp_path: Path) -> Path:
    """The circuit's file beside its model and dictionaries, which it names as relative to itself."""
    shutil.copytree(bundled.path("spool"), tmp_path / "spool")
    assert circuit.inputs is not None
    inputs = replace(
        circuit.inputs,
        model=replace(circuit.inputs.model, source="spool"),
        dictionaries={
            site: replace(one, source=f"spool/dictionaries/{site}") for site, one in circuit.inputs.dictionaries.items()
        },
    )
    return replace(circuit, inputs=inputs).save(tmp_path / "circuit.json")


def test_its_file_alone_gives_the_same_numbers(circuit: Circuit, saved: Path) -> None:
    assert Circuit.load(saved) == circuit
    again = evaluate_circuit(saved)
    assert again.measured == circuit.measured
    assert (again.differences, again.changed) == ((), ())
    assert (again.model, again.task) == (circuit.model, circuit.task) == ("bundled:spool", "sva-simple")
    names = [one.name for one in again.metrics]
    assert (names[0], names[-2:]) == ("full model", ["circuit", "empty circuit"])


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["shared", "position"])
def test_other_mask_groups_are_made_again(tmp_path: Path, masks: str) -> None:
    circuit = found("bundled:spool", bundled.path("spool") / "dictionaries", masks)
    again = evaluate_circuit(circuit.save(tmp_path / "circuit.json"))
    assert again.measured == circuit.measured
    assert (again.differences, again.changed) == ((), ())


def test_it_records_no_path_of_this_machine(saved: Path) -> None:
    assert str(bundled.home()) not in json.dumps(asdict(Circuit.load(saved))["inputs"])
    assert Circuit.load(saved).inputs.model.source == "bundled:spool"


def test_prompts_whose_first_token_passes_through_are_found_again(tmp_path: Path) -> None:
    """The file has them without a role at the sink, which the prompts' texts alone would give back."""
    shutil.copytree(bundled.path("spool"), tmp_path / "sinking")
    model = LanguageModel.load(tmp_path / "sinking", device="cpu")
    positions = model.hf.transformer.wpe.weight.data
    positions[0] = 2000 * torch.randn(len(positions[0]), generator=torch.Generator().manual_seed(5))
    model.hf.save_pretrained(tmp_path / "sinking")
    model = LanguageModel.load(tmp_path / "sinking", device="cpu")
    sets = DictionarySet.load(bundled.path("spool") / "dictionaries")
    for one in sets.values():
        one.config, one.reported = replace(one.config, model_name="sinking"), ReportedMetrics()
    DictionarySet(list(sets.values())).save(tmp_path / "dictionaries")
    sets = DictionarySet.load(tmp_path / "dictionaries")
    task = get("sva-simple").generate(model.tokenizer, n=40, seed=1, bos=False)
    settings = StudySettings(batch_size=16, seed=2, minimum_accuracy=0.6)
    assert bool((task.test.clean.roles[:, 0] >= 0).all())
    assert bool((Study(model, sets, task, settings).task.test.clean.roles[:, 0] == -1).all())
    circuit = find_circuit(model, sets, task, size=12, settings=settings, search=SEARCH).circuit
    again = evaluate_circuit(circuit.save(tmp_path / "circuit.json"))
    assert again.measured == circuit.measured
    assert (again.differences, again.changed) == ((), ())


def test_on_other_prompts_it_says_what_changed_and_which_numbers(circuit: Circuit, saved: Path) -> None:
    model = LanguageModel.load("bundled:spool", device="cpu")
    task = get("sva-simple").generate(model.tokenizer, n=60, seed=7, bos=True)
    again = evaluate_circuit(saved, model=model, task=task)
    assert again.changed == ("task: other prompts of sva-simple",)
    assert again.prompts == len(task.test)
    assert Difference("kl", circuit.measured["kl"], again.measured["kl"]) in again.differences
    other = get("code-index").generate(model.tokenizer, n=40, seed=7, bos=True)
    # The circuit's roles are not those of the other task.
    lacking = {node.role for node in circuit.nodes} - set(other.role_names)
    assert lacking
    with pytest.raises(UsageError, match=f"lacks {', '.join(sorted(lacking))}"):
        evaluate_circuit(saved, model=model, task=other)


def test_paths_are_seen_from_its_folder_and_changed_weights_are_refused(circuit: Circuit, copied: Path) -> None:
    assert evaluate_circuit(copied).measured == circuit.measured
    model = LanguageModel.load(copied.parent / "spool", device="cpu")
    model.hf.get_input_embeddings().weight.data[5] += 0.5
    model.hf.save_pretrained(copied.parent / "spool")
    with pytest.raises(GossamerError, match=r"model .*spool: weights with SHA-256 .* have changed since"):
        evaluate_circuit(copied)
    # Given by name it is what the user means.
    other = evaluate_circuit(copied, model=str(copied.parent / "spool"))
    assert len(other.changed) == 1
    assert other.changed[0].startswith("model: ")
    # A word that no prompt holds is embedded otherwise, and unembedded: the circuit's own numbers stay.
    assert [one.name for one in other.differences] == ["kl"]


def test_changed_or_missing_dictionaries_are_refused(circuit: Circuit, copied: Path) -> None:
    site = circuit.sites[0]
    folder = copied.parent / "spool" / "dictionaries" / str(site)
    sets = DictionarySet.load(copied.parent / "spool" / "dictionaries")
    changed = next(iter(sets.values()))
    changed.b_dec.data += 0.01
    changed.save(folder)
    with pytest.raises(GossamerError, match=rf"dictionary at {site}, .*: weights with SHA-256"):
        evaluate_circuit(copied)
    other = evaluate_circuit(copied, dictionaries=sets)
    assert other.changed == (f"dictionary at {site}: other weights",)
    assert other.differences
    shutil.rmtree(folder)
    with pytest.raises(GossamerError, match=rf"the circuit's dictionary at {site}: not found .*give --dictionaries"):
        evaluate_circuit(copied)
    with pytest.raises(UsageError, match=r"dictionaries at .* expected, as the circuit has"):
        evaluate_circuit(copied, dictionaries=[copied.parent / "spool" / "dictionaries" / str(circuit.sites[1])])


def test_a_file_of_the_first_version_needs_what_it_lacks(circuit: Circuit, tmp_path: Path) -> None:
    """Its nodes are objects of three parts, and ends of edges lists of them."""

    def parts(end) -> list:
        return [end, "", 0] if isinstance(end, str) else [str(end.site), end.role, end.latent]

    body = json.loads(circuit.save(tmp_path / "new.json").read_text())
    for name in ("format", "sha256", "inputs"):
        del body[name]
    names = ("site", "role", "latent")
    body["nodes"] = [{**dict(zip(names, parts(one.node), strict=True)), "score": one.score} for one in circuit.nodes]
    body["edges"] = [
        {"source": parts(one.source), "target": parts(one.target), "weight": one.weight} for one in circuit.edges
    ]
    old = write_json(tmp_path / "old.json", {"format": "gossamer-circuit-1", "sha256": digest(body), **body})
    loaded = Circuit.load(old)
    bare = tuple(Edge(one.source, one.target, one.weight) for one in circuit.edges)
    assert (loaded.nodes, loaded.edges, loaded.measured) == (circuit.nodes, bare, circuit.measured)
    with pytest.raises(UsageError, match=r"does not record the dictionaries.*give --dictionaries"):
        evaluate_circuit(old)
    sets = DictionarySet.load(bundled.path("spool") / "dictionaries")
    with pytest.raises(UsageError, match=r"does not record the task.*give --task"):
        evaluate_circuit(old, dictionaries=sets)
    model = LanguageModel.load("bundled:spool", device="cpu")
    task = get("sva-simple").generate(model.tokenizer, n=40, seed=1, bos=True)
    assert evaluate_circuit(old, model=model, dictionaries=sets, task=task).measured == circuit.measured
    named, file = {str(site): one for site, one in sets.items()}, task.save(tmp_path / "task.json")
    assert evaluate_circuit(old, model=model, dictionaries=named, task=file).measured == circuit.measured


def test_a_model_that_is_gone_is_one_line(circuit: Circuit, copied: Path) -> None:
    os.rename(copied.parent / "spool", copied.parent / "moved")
    with pytest.raises(GossamerError, match=r"the recorded model .*: not found .*give --model") as caught:
        evaluate_circuit(copied)
    assert "\n" not in str(caught.value)
