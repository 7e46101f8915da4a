"""Files of a study: what others read of it, and the store."""

import csv
import json
from dataclasses import replace

import pytest
from explain_fixtures import WINDOWS, feature, planted_store

from gossamer.errors import UsageError
from gossamer.explain import ExplainSettings, ExplanationStudy
from gossamer.explain.answers import ItemCounts
from gossamer.explain.export import (
    keep_in_store,
    read_texts,
    write_csv,
    write_delphi,
    write_neuronpedia,
)
from gossamer.explain.summary import no_better_than_words, summary
from gossamer.report.explanations import write_explanations
from gossamer.store import FeatureStore, Search


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "store"
    _, dictionary = planted_store(folder)
    with FeatureStore(folder) as store:
        told = {feature(0): "activates on dog", feature(3): "activates on dog"}
        study = ExplanationStudy(
            store,
            [feature(one) for one in (0, 2, 3, 4)],
            ExplainSettings(windows=WINDOWS),
            dictionaries={dictionary.site: dictionary},
            told=told,
        )
        yield study.run(), store


def test_csv_has_a_row_a_score_and_the_failures(made, tmp_path):
    found, _ = made
    rows = list(csv.DictReader(write_csv(found, tmp_path / "e.csv").open()))
    assert len(rows) == sum(len(row.scores) for row in found.scores) + 1
    first = next(row for row in rows if row["scorer"] == "detection" and row["feature"].endswith("/0"))
    assert (first["value"], first["wrong"], first["unparsed"], first["error"]) == ("1.0", "0", "0", "0")
    assert [row["failure"] for row in rows if row["failure"]] == ["never active in the corpus"]


def test_neuronpedia_s_form(made, tmp_path):
    found, store = made
    (path,) = write_neuronpedia(found, store, tmp_path, "tiny", "0-res")
    body = json.loads(path.read_text())
    assert (body["modelId"], body["source"]) == ("tiny", "0-res")
    assert [one["index"] for one in body["features"]] == [0, 3, 4]
    for one in body["features"]:
        assert all(1 <= len(said["text"]) <= 512 for said in one["explanations"])
        assert {said["methodName"] for said in one["explanations"]} <= {"rule", "person"}
        assert all(len(act["tokens"]) == len(act["values"]) for act in one["activations"])
        assert one["activations"]
        assert 0 < one["density"] < 1
    with pytest.raises(UsageError, match="of one site"):
        write_neuronpedia(replace(found, explanations=()), store, tmp_path, "tiny", "0-res")


def test_delphi_s_files_hold_every_item(made, tmp_path):
    found, _ = made
    write_delphi(found, tmp_path)
    said = tmp_path / "explanations" / "rule" / "resid_pre.0_latent0.txt"
    assert json.loads(said.read_text()).startswith("activates on")
    items = json.loads((tmp_path / "scores" / "rule-rule" / "detection" / said.name).read_text())
    (row,) = [
        one
        for one in found.scores
        if one.explanation.feature == feature(0) and one.explanation.method == "rule" and not one.control
    ]
    score = row.score("detection")
    assert len(items) == score.items.right == sum(one["correct"] for one in items)
    assert sum(one["activating"] for one in items) == sum(one["prediction"] for one in items) == WINDOWS.positives


def test_explanations_and_scores_are_searched_in_the_store(made):
    found, store = made
    assert keep_in_store(found, store, "rule") == 3
    rows = store.search(Search(explanation="dog")).to_pylist()
    assert [row["latent"] for row in rows] == [0]
    stored = store.sql("SELECT latent, score, scorer, method FROM explanations WHERE score > .9 ORDER BY latent")
    assert stored["latent"].to_pylist() == [0, 3, 4]
    assert set(stored["scorer"].to_pylist()) == {"detection"}
    assert store.card(feature(0)).explanation.startswith("activates on")
    # A text without a score is kept too.
    store.explain({feature(0): "dogs"}, "person")
    one = store.sql("SELECT score, text FROM explanations WHERE latent = 0").to_pylist()
    assert one == [{"score": None, "text": "dogs"}]
    with pytest.raises(UsageError, match="explanations by guess expected, found person, rule"):
        keep_in_store(found, store, "guess")


def test_people_s_texts_are_read(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("feature,text\nresid_pre.0/3,school things\n")
    assert read_texts(path) == {feature(3): "school things"}
    for wrong in ("a,b\n1,2\n", "feature,text\n", "feature,text\nresid_pre.0/3,\n", "feature,text\nx,y\n"):
        path.write_text(wrong)
        with pytest.raises(UsageError):
            read_texts(path)


def test_a_summary_has_controls_and_knows_a_word_list_when_it_sees_one(made):
    found, _ = made
    lines = {(line.method, line.scorer, line.control): line for line in summary(found, found)}
    assert lines["rule", "detection", ""].mean.value == pytest.approx(1.0)
    assert lines["rule", "detection", "shuffled"].mean.value < 0.8
    assert lines["rule", "detection", "random weights"].mean == lines["rule", "detection", ""].mean
    assert lines["rule", "detection", ""].failures == 0
    assert no_better_than_words(found) == {"person": (2, 2)}
    at_chance = replace(found, gold={"rule": replace(found.scores[0].scores[0], value=0.5, low=0.3, auroc=None)})
    assert all((line.mean, line.said) == (None, "judge at chance") for line in summary(at_chance))
    assert no_better_than_words(at_chance) == {}


def test_what_a_judge_at_chance_says_of_a_feature_is_not_shown(made, tmp_path):
    found, _ = made
    chance = replace(found.scores[0].scores[0], value=0.5, low=0.3, auroc=None)
    guessed = tuple(
        replace(row, judge="guesser", scores=tuple(replace(one, value=0.123) for one in row.scores))
        for row in found.scores
    )
    both = replace(found, scores=(*found.scores, *guessed), gold={"guesser": chance})
    text = write_explanations(both, tmp_path / "both").read_text()
    assert "0.123" not in text
    assert "no better than a word list at 2 of 2" in text
    # A rule's own follower comes before a language model that can judge.
    able = replace(both, gold={"guesser": replace(chance, value=1.0, low=0.9)})
    rows = write_explanations(able, tmp_path / "able").read_text().splitlines()
    assert any(line.startswith("| resid_pre.0/0 | rule |") and "| 1.000 |" in line for line in rows)
    assert "guesser on questions whose answers are known: balanced accuracy 0.500" in text
    # One that said nothing that could be read did not guess.
    none = replace(chance, value=None, low=None, high=None, items=ItemCounts(right=2, unparsed=37, error=1))
    silent = replace(both, gold={"guesser": none})
    assert {line.said for line in summary(silent) if line.judge == "guesser"} == {"judge did not answer"}
    text = write_explanations(silent, tmp_path / "silent").read_text()
    assert "guesser did not answer" in text
    assert "37 of 40 answers could not be read, 1 did not come" in text
    assert "chance" not in text
    alone = write_explanations(replace(both, scores=guessed), tmp_path / "alone").read_text()
    assert "no better" not in alone
    assert "0.123" not in alone


def test_the_report_says_what_failed(made, tmp_path):
    found, _ = made
    text = write_explanations(found, tmp_path).read_text()
    assert "1 without an explanation; the first: resid_pre.0/2, never active in the corpus." in text
    assert "person: no better than a word list at 2 of 2 features." in text
    assert "| rule | rule | detection | shuffled |" in text
    assert (tmp_path / "explanations.png").stat().st_size > 5_000
