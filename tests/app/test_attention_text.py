"""A text of the reader's own, taken apart with the model of the run."""

import pytest

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.attention import AttributionData, Limits, Question, attribution_data

TEXT = "The boys near the dog"
WHERE = "/api/v1/dicts/circuit/attention"


def numbers(data):
    """Value of every function, by the name of what it is of."""
    return [(one.item, round(one.value, 3)) for one in data.prompts[0].functions]


def test_the_answer_is_the_librarys(ask, tmp_path):
    model = LanguageModel.load("bundled:spool", device="cpu")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    limits = Limits(latents=3)
    for question, asked in (
        (Question(TEXT, " are", " is"), {"answer": " are", "wrong": " is"}),
        (Question(TEXT), {}),
    ):
        expected = attribution_data(model, dictionaries, [question], limits=limits, bos=True)
        answer = ask.post(WHERE, json={"text": TEXT, "latents": 3, **asked})
        assert answer.status_code == 200, answer.text
        path = tmp_path / "data.json"
        path.write_text(answer.text[answer.text.index('"data":') + 7 : answer.text.rindex(',"shown"')])
        found = AttributionData.load(path)
        assert numbers(found) == numbers(expected)
        assert found.prompts[0].tokens == expected.prompts[0].tokens


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"text": TEXT, "answer": " are"}, "an answer and a wrong one expected"),
        ({"text": TEXT, "answer": " are", "wrong": " is", "feature": "resid_post.2/1"}, "found both"),
        ({"text": TEXT, "feature": "nothing"}, "nothing"),
        ({"text": "the dog " * 60}, "at most 64 tokens expected"),
    ],
)
def test_what_cannot_be_taken_apart_is_said(ask, asked, said):
    answer = ask.post(WHERE, json=asked)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_a_text_is_typed_taken_apart_and_copied_as_python(visit, capsys):
    page = visit("/explore/circuit")
    page.fill("textarea", TEXT)
    page.fill("[name=answer]", " are")
    page.fill("[name=wrong]", " is")
    page.click("text=Take apart")
    page.wait_for_selector("#terms tbody tr")
    assert "logit difference" in page.inner_text("#node-title")
    assert "answer=" in page.url
    page.click("text=Copy as Python")
    page.wait_for_selector("text=copied")
    exec(page.evaluate("navigator.clipboard.readText()"), {})
    assert "AttributionData(" in capsys.readouterr().out
