"""Findings of a tiny study, and the report written from them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from circuit_lab import mirror_dictionary, random_dictionary, sites_of

from gossamer.circuits.circuit import Circuit, Node
from gossamer.circuits.findings import findings, prompt_view, stability
from gossamer.circuits.results import Findings
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.study import Found, Study, StudySettings, find_circuit
from gossamer.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.report import write_report
from gossamer.tasks.task import Task

SEARCH = SearchSettings(sizes=(40, 20), steps=15, batch_size=6, learning_rate=0.3)
METHODS = ("attribution patching", "random")


@pytest.fixture(scope="module")
def found(model: LanguageModel, task: Task) -> Found:
    sites = sites_of("resid_post.1", "resid_post.2")
    dictionaries = {site: mirror_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    return find_circuit(model, dictionaries, task, size=12, settings=StudySettings(seed=2), search=SEARCH)


@pytest.fixture(scope="module")
def other(found: Found) -> Circuit:
    """A circuit of another task that holds one of the found latents."""
    node = found.circuit.nodes[0]
    sites, roles = found.circuit.sites, found.circuit.roles
    return Circuit((Node(node.site, "A", node.latent),), found.circuit.model, "another task", sites, roles)


@pytest.fixture(scope="module")
def evaluated(found: Found, other: Circuit) -> Findings:
    return findings(found, methods=METHODS, reruns=1, others=[other], subsets=2, warnings=["Mind the gap."])


def test_every_part_is_of_the_circuit_that_was_found(found: Found, evaluated: Findings) -> None:
    bench, circuit = found.study.bench, found.circuit
    assert (evaluated.task, evaluated.model) == (circuit.task, circuit.model)
    assert evaluated.sites == ("resid_post.1", "resid_post.2")
    assert evaluated.roles == found.study.task.role_names
    assert {(card.site, card.role, card.latent): card.effect for card in evaluated.nodes} == {
        node.key: node.score for node in circuit.nodes
    }
    assert [row.name for row in evaluated.budget][-3:] == ["+ all dictionaries", "circuit", "empty circuit"]
    assert evaluated.budget[-2].faithfulness.value == pytest.approx(circuit.measured["faithfulness"], rel=1e-6)
    assert [curve.method for curve in evaluated.curves] == ["mask", *METHODS]
    assert all([point.size for point in curve.points] == [40, 20, 12] for curve in evaluated.curves)
    assert evaluated.curves[0].points[0].behaviour == bench.behaviour(
        "mask", bench.outcome(found.path.nodes.select(found.path.circuits[0]))
    )
    assert [point.size for point in evaluated.completeness.points] == [0, 1, len(circuit.nodes) - 1, len(circuit.nodes)]
    assert evaluated.completeness.points[0].circuit == pytest.approx(circuit.measured["faithfulness"], rel=1e-6)


def test_latents_of_other_tasks_are_flagged(found: Found, evaluated: Findings) -> None:
    shared = (found.circuit.nodes[0].site, found.circuit.nodes[0].latent)
    for card in evaluated.nodes:
        assert card.generic == (("another task",) if (card.site, card.latent) == shared else ())


def test_settings_say_how_to_run_it_again(found: Found, evaluated: Findings) -> None:
    settings = evaluated.settings
    assert settings["candidates"] == str(len(found.path.nodes))
    assert settings["method"] == "mask"
    assert settings["target"] == "size 12.0"
    assert settings["prompts"] == "12 searched on, 12 for ablation values, 8 held out"
    assert settings["seed"] == "2"
    assert (settings["ablation"], settings["errors"]) == ("mean", "mean")
    assert "steps 15" in settings["method settings"]
    assert "sizes [40, 20, 12]" in settings["method settings"]
    assert settings["dictionary resid_post.1"] == "relu, 32 latents, made in this session"
    assert all(isinstance(value, str) for value in settings.values())


def test_reruns_differ_from_the_search_in_their_seed_only(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[SearchSettings, int]] = []

    def watched(splice: object, full: object, search: SearchSettings) -> object:
        seen.append((search, len(splice.examples)))
        return search_path(splice, full, search)

    monkeypatch.setattr("gossamer.circuits.findings.search_path", watched)
    overlaps = {one.kind: one for one in stability(found, 2)}
    size = len(found.nodes)
    assert [(search.seed, prompts) for search, prompts in seen] == [(3, 12), (4, 12), (3, 6), (4, 6)]
    for search, _ in seen:
        assert replace(search, seed=found.search.seed, sizes=found.search.sizes) == found.search
        assert set(search.sizes) == {size, *found.search.sizes}
    assert overlaps["seed"].labels == ("seed 2", "seed 3", "seed 4")
    assert overlaps["seed"].sizes == (size, size, size)
    assert overlaps["split"].labels == ("all", "half 1", "half 2")
    assert overlaps["size"].labels == ("40", "20", "12")
    mine, theirs = ({node.key for node in found.circuit.nodes}, _rerun(found, 3, size))
    assert overlaps["seed"].jaccard[0][1] == len(mine & theirs) / len(mine | theirs)


def _rerun(found: Found, seed: int, size: int) -> set[tuple[str, str, int]]:
    search = replace(found.search, seed=seed, sizes=(size, *found.search.sizes))
    path = search_path(found.study.splice, found.study.train.full, search)
    return set(path.nodes.select(path.of_size(size)).keys())


def test_without_reruns_only_sizes_are_compared(found: Found) -> None:
    assert [one.kind for one in stability(found, 0)] == ["size"]


def test_the_prompt_has_its_tokens_and_roles_without_padding(found: Found, task: Task) -> None:
    for row in (0, 1):
        view = prompt_view(found.study, row)
        ids, length = task.test.clean.tokens.ids[row], int(task.test.clean.end[row]) + 1
        assert view.tokens == tuple(f"w{token}" for token in ids[:length].tolist())
        assert view.roles[0] is None
        assert view.roles[1:] == tuple(task.role_names[role] for role in task.test.clean.roles[row, 1:length].tolist())
        assert view.answer == f"w{int(task.test.answer[row])}"
        assert view.wrong == f"w{int(task.test.wrong[row])}"
        assert len(view.counterfactual) == length


def test_dictionaries_that_cost_much_are_warned_of(
    found: Found, evaluated: Findings, model: LanguageModel, task: Task
) -> None:
    assert evaluated.warnings == ("Mind the gap.",)
    site = Site.parse("resid_post.2")
    poor: dict[Site, Dictionary] = {site: random_dictionary(site, n_latents=8)}
    lossy = Study(model, poor, task, StudySettings(errors="drop", minimum_accuracy=0.0))
    with pytest.warns(match="explained variance"):
        kept = lossy.bench.faithfulness(lossy.bench.dictionaries)
    assert kept < 0.9
    nodes = lossy.nodes.select(torch.arange(2))
    circuit = Circuit.from_nodes(lossy.nodes, torch.arange(2), model="m", task="t", provenance=found.circuit.provenance)
    path = replace(found.path, method="by hand", nodes=lossy.nodes, circuits=(torch.arange(2),))
    warned = findings(Found(circuit, nodes, path, lossy), methods=(), reruns=0, subsets=0).warnings
    assert len(warned) == 1
    assert f"keep {kept:.0%} of the model's logit difference" in warned[0]


@pytest.mark.slow
def test_a_report_is_written(evaluated: Findings, tmp_path: Path) -> None:
    page = write_report(evaluated, tmp_path)
    assert "attribution patching" in page.read_text()
    saved = json.loads((tmp_path / "findings.json").read_text())
    assert len(saved["nodes"]) == len(evaluated.nodes)
    assert {file.stem for file in (tmp_path / "figures").iterdir()} >= {
        "circuit_map",
        "curves",
        "budget",
        "completeness",
    }
