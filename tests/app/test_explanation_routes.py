"""Explanations as the page has them, against the study that wrote them."""

import pytest
from explain_run import write_explanations
from workbench_run import bench_of, client_of

from gossamer.explain.summary import summary

PATH = "/api/v1/explanations/explain~explanations"


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained") / "run"
    return folder, write_explanations(folder)


@pytest.fixture(scope="module")
def asked(explained):
    return client_of(bench_of(explained[0]))


def test_every_sentence_is_there_with_its_scores_and_failures(asked, explained):
    page, found = asked.get(PATH).json(), explained[1]
    assert page["total"] == len(page["rows"]) == len(found.explanations)
    assert (page["sentences"], page["failures"], page["planned"]) == (3, 1, 4)
    for row, own in zip(page["rows"], found.explanations, strict=True):
        assert (row["text"], row["failure"]) == (own.explanation.text, own.explanation.failure)
        scores = [
            (scored.judge, scored.control, one.scorer, one.value, one.items)
            for scored in found.scores
            if scored.explanation.feature == own.explanation.feature
            for one in scored.scores
        ]
        shown = [(one["judge"], one["control"], one["scorer"], one["value"]) for one in row["scores"]]
        assert shown == [one[:4] for one in scores]
        for one, (*_, items) in zip(row["scores"], scores, strict=True):
            assert [one[name] for name in ("right", "wrong", "unparsed", "error")] == [
                items.right,
                items.wrong,
                items.unparsed,
                items.error,
            ]
    assert sum(one["unparsed"] for row in page["rows"] for one in row["scores"]) > 0


def test_a_judge_whose_answers_are_not_read_is_said_and_has_no_mean(asked, explained):
    page = asked.get(PATH).json()
    lines = summary(explained[1])
    assert len(page["summary"]) == len(lines)
    assert {one["judge"]: one["ability"] for one in page["gold"]} == {"script": "did not answer"}
    assert "script did not answer" in page["gold"][0]["said"]
    for shown, line in zip(page["summary"], lines, strict=True):
        assert (shown["mean"] is None) == (line.mean is None)
        assert shown["ability"] == ("able" if shown["judge"] != "script" else "did not answer")
    controls = {one["control"] for one in page["summary"]}
    assert controls == {"", "shuffled"}
    assert page["usage"] == {
        "answers": 2,
        "unread": 1,
        "prompt_tokens": 40,
        "output_tokens": 6,
        "models": ["script"],
    }


def test_words_and_latents_are_searched_for(asked):
    assert [one["feature"] for one in asked.get(PATH, params={"q": "SCHOOL"}).json()["rows"]] == ["resid_pre.0/3"]
    assert asked.get(PATH, params={"q": "school dog"}).json()["total"] == 0
    (row,) = asked.get(PATH, params={"feature": "resid_pre.0/2"}).json()["rows"]
    assert row["failure"] == "never active in the corpus"
    assert asked.get(PATH, params={"limit": 1}).json()["total"] == 4
    assert asked.get(PATH, params={"limit": 0}).status_code == 422


def test_explanations_without_scores_are_shown_and_said_to_be(explained, tmp_path):
    (tmp_path / "run").mkdir()
    whole = explained[0] / "explain"
    (tmp_path / "run" / "explanations.json").write_bytes((whole / "explanations.json").read_bytes())
    ask = client_of(bench_of(tmp_path / "run"))
    page = ask.get("/api/v1/explanations/explanations").json()
    assert "no scores are there yet" in page["unscored"]
    assert page["summary"] == []
    assert len(page["rows"]) == 4
    (tmp_path / "run" / "scores.json").write_text((whole / "scores.json").read_text()[:-200])
    page = ask.get("/api/v1/explanations/explanations").json()
    assert "scores.json" in page["unscored"]
