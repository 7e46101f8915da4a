"""Widgets of a notebook, as their front end sees them: state, answers, messages, and HTML where there are none."""

import json
import re

import pytest
from attention_run import write_attention

from gossamer.errors import GossamerError, UsageError

pytest.importorskip("anywidget")

from gossamer.app import AttentionWidget, CircuitWidget, LatentWidget, PromptWidget, RunWidget
from gossamer.app.in_process import key_of
from gossamer.report import CircuitMap

PAGE, SET = "/api/v1/circuits/circuit", "/api/v1/dicts/circuit"


@pytest.fixture
def closing():
    """Close widgets when the test ends."""
    made = []
    yield lambda widget: made.append(widget) or widget
    for widget in made:
        widget.close()


@pytest.fixture
def sent(monkeypatch):
    """Messages to the front end."""
    found = []
    monkeypatch.setattr(RunWidget, "send", lambda _, content, buffers=None: found.append((content, buffers)))
    return found


def asked(widget, path, method="GET", body=None):
    widget._handle_custom_msg({"id": 7, "path": path, "method": method, "body": body and json.dumps(body)}, [])


def test_the_page_is_in_it_as_text(built, run, closing):
    one, other = closing(RunWidget(run)), closing(RunWidget(run))
    assert not re.search(r"""from\s*["']https?://|import\(\s*["']https?:""", one._esm)
    assert "export{" in one._esm.replace(" ", "")
    assert one._esm != other._esm
    assert (one.place, one.live) == ("#/", True)
    assert one.answers["/api/v1/run"]["body"]["run"] == "run"


def test_a_circuit_brings_its_answers_and_its_marks_come_back(built, made, run, closing):
    widget = closing(CircuitWidget(run))
    assert widget.place == "#/circuit/circuit"
    names = [str(node.node) for node in made[2].nodes]
    keys = {key_of(f"{PAGE}/nodes?name={name}") for name in names}
    assert {PAGE, f"{PAGE}/evaluation", "/api/v1/run", *keys} <= set(widget.answers)
    assert widget.answers[PAGE]["body"]["live"] is None
    widget.set_state({"marks": {"pinned": names[:2], "groups": [], "labels": {}}})
    assert widget.pinned == names[:2]


def test_questions_are_heard_and_answered_in_process(built, run, closing, sent, made):
    widget = closing(CircuitWidget(run / "circuit.json"))
    name = str(made[2].nodes[0].node)
    asked(widget, f"{PAGE}/score", "POST", {"nodes": [name]})
    assert sent[0] == ({"id": 7, "heard": True}, None)
    answer, _ = sent[1]
    assert (answer["id"], answer["status"]) == (7, 200)
    assert answer["body"]["pinned"]["faithfulness"]["value"] is not None
    asked(widget, f"{PAGE}/export?format=graphml")
    answer, buffers = sent[3]
    assert answer["headers"]["content-disposition"].endswith('.graphml"')
    assert buffers[0].startswith(b"<")
    asked(widget, "/api/v1/circuits/nothing")
    assert (sent[5][0]["status"], "not in run" in sent[5][0]["body"]["detail"]) == (404, True)


def test_what_is_in_memory_is_shown_too(built, made, closing):
    found, findings = made[1], made[2]
    widget = closing(CircuitWidget(findings))
    page = widget.answers[f"/api/v1/circuits/{widget.part}"]["body"]
    assert [node["id"] for node in page["map"]["nodes"]] == [str(node.node) for node in findings.nodes]
    assert "does not record" in page["live"]
    assert widget._repr_html_() == CircuitMap(findings)._repr_html_()
    bare = closing(CircuitWidget(found))
    assert bare.answers[f"/api/v1/circuits/{bare.part}"]["body"]["live"] is None
    assert bare._repr_html_().startswith("<table")


def test_a_text_and_a_latent_are_measured_once_and_brought_along(built, run, closing, made):
    widget = closing(PromptWidget(run, "The boys <b>"))
    assert widget.place == "#/prompt/circuit?text=The+boys+%3Cb%3E"
    body = {"count": 12, "target": None, "text": "The boys <b>", "at": -1}
    answer = widget.answers[key_of(f"{SET}/prompt", json.dumps(body))]["body"]
    shown = widget._repr_html_()
    assert answer["sites"][0]["tokens"][-1]["latents"][0]["feature"] in shown
    assert "<b>" not in shown
    feature = made[2].nodes[0].card.feature
    latent = closing(LatentWidget(run, feature))
    assert latent.answers[key_of(f"{SET}/latent?feature={feature}")]["body"]["feature"] == str(feature)
    assert str(feature) in latent._repr_html_()


def test_attention_is_a_widget_too(built, closing, tmp_path):
    data, *_ = write_attention(tmp_path)
    widget = closing(AttentionWidget(data))
    assert widget.place == f"#/attention/{widget.part}"
    assert widget.answers[f"/api/v1/attribution/{widget.part}"]["status"] == 200
    assert widget._repr_html_().startswith("<iframe")
    kept = closing(AttentionWidget(tmp_path / "explore.json"))
    assert kept.answers[f"/api/v1/attribution/{kept.part}"]["body"]["title"] == data.model


def test_viewers_without_widgets_get_html(built, run, closing):
    widget = closing(CircuitWidget(run))
    found = widget._repr_mimebundle_()
    data = found[0] if isinstance(found, tuple) else found
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    assert data["text/html"].startswith("<iframe")
    assert repr(widget) == "CircuitWidget(run, #/circuit/circuit)"
    assert "circuit.json" in closing(RunWidget(run))._repr_html_()


def test_mistakes_are_one_line(built, run, tmp_path):
    with pytest.raises(UsageError, match="nothing"):
        RunWidget(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="circuit expected, found none"):
        CircuitWidget(tmp_path / "empty")
    with pytest.raises(GossamerError, match="a site of the dictionaries expected"):
        LatentWidget(run, "resid_post.0/3")


def test_a_cell_that_ran_again_can_keep_views(built, run, closing, sent):
    first, second = closing(CircuitWidget(run)), closing(CircuitWidget(run))
    for widget in (first, second):
        asked(widget, f"{PAGE}/views/one", "PUT", {"pinned": [], "groups": [], "labels": {}})
        assert sent[-1][0]["status"] == 200
    asked(second, f"{PAGE}/views")
    assert sent[-1][0]["body"]["names"] == ["one"]
