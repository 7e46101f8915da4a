"""Cards say what the files say, and no more."""

from dataclasses import replace

import pytest
import yaml
from workbench_run import write_run

from gossamer import bundled
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.results import Findings, PromptCase
from gossamer.circuits.task_metrics import budget_marks
from gossamer.dictionary import DictionarySet
from gossamer.hub.cards import circuit_card, dictionaries_card
from gossamer.report import claims
from gossamer.report.text import number, percent, ratio

NODES = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("circuit")
    write_run(folder)
    return Circuit.load(folder / "circuit.json"), Findings.load(folder / "findings.json")


def test_a_set_has_a_row_a_site_with_what_training_measured():
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    card = dictionaries_card(dictionaries, "me/x", None)
    for site, one in dictionaries.items():
        (row,) = [line for line in card.splitlines() if line.startswith(f"| `{site}` |")]
        assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [
            one.architecture,
            f"{one.n_latents:,}",
            str(one.d_in),
            number(one.reported.l0),
            number(one.reported.explained_variance),
        ]
    held_out = next(iter(dictionaries.values())).provenance["training"]["held_out"]
    assert f"KL {number(held_out['kl'])} nats" in card
    assert "license" not in yaml.safe_load(card.split("---")[1])
    assert 'DictionarySet.load("hub:me/x")' in card


def test_a_model_of_the_hub_is_linked_and_a_folder_is_not(made):
    circuit, _ = made
    facts = {
        name: yaml.safe_load(circuit_card(replace(circuit, model=name), None, "me/x", None).split("---")[1])
        for name in ("google/gemma-2-2b", "/home/me/model", "./models/mine", "bundled:spool")
    }
    assert {name: "base_model" in one for name, one in facts.items()} == {
        "google/gemma-2-2b": True,
        "/home/me/model": False,
        "./models/mine": False,
        "bundled:spool": False,
    }


def test_a_circuit_says_its_claim_its_nodes_and_what_it_needs(made):
    circuit, findings = made
    card = circuit_card(circuit, findings, "me/x", "mit")
    assert claims.summary(findings) in card
    assert sum(line.startswith("| `resid_post") and "@" in line for line in card.splitlines()) == NODES
    for row, mark in zip(findings.budget, budget_marks(findings.budget), strict=True):
        kept = claims.shares(row.faithfulness) + mark
        assert f"| {row.name} | {kept} | {ratio(row.prompt_error.value)} | {percent(row.accuracy)} |" in card
    for one in circuit.inputs.dictionaries.values():
        assert f"`{one.source}` | `{one.sha256[:12]}`" in card
    assert "It was not tested." in circuit_card(circuit, None, "me/x", None)


def test_a_card_marks_the_circuit_and_not_the_model_that_it_is_of(made):
    circuit, findings = made
    more = replace(findings.budget[0].faithfulness_to_dictionaries, value=1.25)
    full, *others, own, empty = (replace(row, faithfulness_to_dictionaries=more) for row in findings.budget)
    assert full.exceeds_dictionaries
    card = circuit_card(circuit, replace(findings, budget=(full, *others, own, empty)), "me/x", "mit")
    marked = [line.split(" | ")[0].strip("| ") for line in card.splitlines() if line.startswith("|") and "†" in line]
    assert marked == [own.name, *([empty.name] if empty.mark else [])]


def test_a_card_says_what_a_mark_means_only_if_it_shows_one(made):
    circuit, findings = made
    of_dictionaries = findings.budget[-3].faithfulness_to_dictionaries
    within, beyond = (
        replace(findings.budget[-2], faithfulness_to_dictionaries=replace(of_dictionaries, value=value))
        for value in (0.5, 1.25)
    )
    within, beyond = (replace(one, faithfulness=findings.budget[0].faithfulness) for one in (within, beyond))
    kinds = (PromptCase("one kind", 5, findings.budget[0], beyond),)
    found = replace(findings, budget=(*findings.budget[:-2], within, replace(within, name="empty")), cases=kinds)
    assert claims.beyond(found)["budget"]
    assert "†" not in circuit_card(circuit, found, "me/x", "mit")
