"""Findings in models whose relations are known: true dictionaries find all, shuffled documents nothing."""

from dataclasses import replace

import numpy as np
import pytest

from gossamer.errors import UsageError
from gossamer.report import relations_truth
from gossamer.statistics import wilson
from gossamer.toys import relations_truth as study
from gossamer.toys.planted_dictionaries import KnownDictionary, true_dictionaries
from gossamer.toys.planted_relations import PlantedSettings, plant_relations
from gossamer.toys.relation_scores import FindingScore, RelationScores, score_relations, summed

SMALL = PlantedSettings(each=1, vocabulary=8192)


@pytest.fixture(scope="module")
def planted():
    return plant_relations(SMALL)


@pytest.fixture(scope="module")
def scores(planted):
    return score_relations(planted, true_dictionaries(planted), planted.tokens(128), causal_rows=24)


@pytest.mark.parametrize(
    "finding",
    [
        *(f"{kind}, mutual partner, 0.9" for kind in ("passed on", "gone", "new", "lost in the error")),
        "one-to-one pairs, mutual partner, 0.9",
        "one-to-one pairs, Hungarian, 0.9",
        "all gates, confirmed by ablation",
        "split (OR of downstream features, itself not passed on)",
        "merge (OR of inputs that are not passed on)",
    ],
)
def test_with_true_dictionaries_all_that_is_planted_is_found_and_nothing_else(scores, finding):
    one = scores.of(finding)
    assert (one.right, one.recovered) == (one.found, one.planted)
    assert one.planted > 0


def test_every_planted_gate_is_found_and_those_found_again_a_layer_later_are_not_confirmed(scores):
    for kind in ("AND", "OR", "XOR", "AND NOT", "AND of 3", "OR of 3"):
        one = scores.of(kind)
        assert one.recovered == one.planted > 0
    # Their outputs are copied by the second layer, and are still functions of the copied inputs.
    assert scores.of("all gates").found > scores.of("all gates, confirmed by ablation").found


def test_shuffled_documents_give_next_to_nothing(scores):
    for one in scores.shuffled:
        assert one.found <= 0.03 * one.planted
    assert scores.of("shuffled: outputs with a gate").found == 0
    assert scores.communities > 0.8


def test_a_finding_of_a_latent_that_stands_for_nothing_is_wrong_and_what_it_was_is_missed(planted, scores):
    known = true_dictionaries(planted)
    site = planted.sites[1]
    output = next(gate.output for gate in planted.gates[0] if gate.kind == "AND")
    features = np.where(known[site].features == output, -1, known[site].features)
    renamed = {**known, site: KnownDictionary(known[site].dictionary, features)}
    fewer = score_relations(planted, renamed, planted.tokens(128), causal_rows=24)
    for finding in ("AND", "all gates, confirmed by ablation"):
        before, after = scores.of(finding), fewer.of(finding)
        assert (after.found, after.right, after.recovered) == (before.found, before.right - 1, before.recovered - 1)
    finding = "new, mutual partner, 0.9"
    assert fewer.of(finding).recovered < scores.of(finding).recovered


def test_scores_add_up_and_have_wilson_intervals():
    one = RelationScores((FindingScore("AND", 4, 3, 5, 3),), (FindingScore("shuffled: AND", 1, 0, 9, 1),), 0.5)
    both = summed([one, replace(one, communities=1.0)])
    assert both.of("AND") == FindingScore("AND", 8, 6, 10, 6)
    assert both.of("shuffled: AND").planted == 18
    assert both.communities == 0.75
    low, high = wilson(np.array(6), np.array(8))
    assert both.of("AND").precision == (0.75, pytest.approx(float(low)), pytest.approx(float(high)))
    assert both.of("AND").recall[0] == 0.6
    assert np.isnan(FindingScore("OR", 0, 0, 3, 0).precision[0])
    with pytest.raises(UsageError, match="one of AND, shuffled: AND expected, found 'OR'"):
        one.of("OR")


def test_a_study_goes_on_where_it_stopped_and_writes_its_tables(tmp_path, monkeypatch):
    settings = study.TruthSettings(seeds=2)
    grid = [study.TruthCase("true", 1.0, 512), study.TruthCase("leaning", 0.99, 512)]
    found = [FindingScore(name, 9, 7, 8, 7) for name in relations_truth.SHOWN.values()]

    def scored(case, settings, seed):
        scores = RelationScores((*found, FindingScore("AND", 2 + seed, 2, 3, 2)), (), 0.5)
        return study.ScoredCase(case, seed, case.quality, scores)

    monkeypatch.setattr(study, "score_case", scored)
    study.relations_truth(settings, grid, folder=tmp_path / "whole")
    asked = []

    def stopping(*one):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(one)
        return scored(*one)

    monkeypatch.setattr(study, "score_case", stopping)
    with pytest.raises(KeyboardInterrupt):
        study.relations_truth(settings, grid, folder=tmp_path / "parts")
    monkeypatch.setattr(study, "score_case", scored)
    again = study.relations_truth(settings, grid, folder=tmp_path / "parts")
    assert [(one.case, one.seed) for one in again.scored] == [(case, seed) for case in grid for seed in (0, 1)]
    names = [tmp_path / name / study.RESULTS for name in ("whole", "parts")]
    assert names[0].read_bytes() == names[1].read_bytes()
    text = relations_truth.write_relations_truth(again, tmp_path).read_text()
    assert "| AND | 4 of 5 | 0.80 [" in text
    assert "| 4 of 6 | 0.67 [" in text
    assert all(f"| {case.label} | 512 |" in text for case in grid)
    assert "| 100% | 0.78 / 0.88 |" in text
    for build in (lambda: study.TruthCase("found", 1.0, 5), lambda: study.TruthSettings(seeds=0)):
        with pytest.raises(UsageError):
            build()
