"""A language model that rates completions, through a real server: what it answers, and what it does not."""

import json

import pytest
from scripted_server import ScriptedServer

from gossamer.chat import Endpoint, EndpointSettings, Failure
from gossamer.errors import GossamerError, UsageError
from gossamer.steering import ChatCompletionJudge, Ratings
from gossamer.steering.judge import read_rating

PROMPTS, TEXTS = ["One day", "She"], [" the dog cried.", " went went went"]


def judge(server, **settings):
    given = EndpointSettings(server.url, "scripted", **{"timeout": 30.0, "attempts": 2, **settings})
    return ChatCompletionJudge(Endpoint(given, sleep=lambda _: None))


def rater(body):
    """2 for a concept that is there, for a continuation, and for text that does not repeat itself; else 0."""
    system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
    if "concept" in system and "Concept: " in system:
        return f"Rating: {2 * ('cried' in user)}"
    return f"Rating: {0 if 'went went' in user else 2}"


def test_three_questions_a_completion_and_nothing_of_how_it_was_made():
    with ScriptedServer(answer=rater) as server:
        found = judge(server).rate("sad, cried", PROMPTS, TEXTS)
    assert found == [Ratings(2, 2, 2), Ratings(0, 0, 0)]
    assert len(server.requests) == 6
    bodies = [body for _, _, body in server.requests]
    assert all(body["temperature"] == 0 for body in bodies)
    asked = [body["messages"][0]["content"] for body in bodies]
    assert sum("Concept: sad, cried" in one for one in asked) == 2
    # Fluency is judged of the text alone.
    assert sum("Beginning: One day" in body["messages"][-1]["content"] for body in bodies) == 1


def test_ratings_are_read_and_not_guessed():
    for text, expected in (
        ("Rating: 2", 2),
        ("1", 1),
        ('{"rating": 0}', 0),
        ("It has some of it.\n**Rating:** [[1]]", 1),
        ("Rating: 0 at first sight. Rating: 2.", 2),
        ("Rating: 1.0", 1),
    ):
        assert read_rating(text) == expected, text
    for text in ("", "good", "Rating: 0, 1 or 2", "Rating: 0/2", "Rating: 10", "7", "true", "Rating: 1.5", "[2]"):
        assert read_rating(text) is Failure.UNPARSED, text


def test_what_cannot_be_read_is_asked_for_again_and_then_counted_apart():
    answers = iter(["well", *["Rating: 1"] * 8])
    with ScriptedServer(answer=lambda _: next(answers)) as server:
        found = judge(server, concurrency=1).rate("sad", PROMPTS, TEXTS)
    assert found == [Ratings(1, 1, 1)] * 2
    assert len(server.requests) == 7
    assert "could not be read" in server.requests[-1][2]["messages"][-1]["content"]
    with ScriptedServer(answer=lambda _: "I would rather not say") as server:
        assert judge(server).rate("sad", PROMPTS[:1], TEXTS[:1]) == [Failure.UNPARSED]
    assert len(server.requests) == 9
    refused = (400, {}, b'{"error": {"message": "too long"}}')
    with ScriptedServer(refused, "right", answer=rater) as server:
        assert judge(server, concurrency=1).rate("cried", PROMPTS, TEXTS) == [Failure.ERROR, Ratings(0, 0, 0)]


@pytest.mark.parametrize(
    ("script", "settings", "said"),
    [
        ("server error", {}, "status 500"),
        ("hang", {"timeout": 0.2, "attempts": 1}, "ReadTimeout"),
        ("invalid bytes", {}, "no UTF-8"),
        ((429, {"Retry-After": "900"}, b"{}"), {}, "pause of 900 s"),
    ],
)
def test_a_server_that_answers_nothing_ends_the_sweep_in_one_line(script, settings, said):
    with ScriptedServer(script, answer=rater) as server, pytest.raises(GossamerError, match=said) as raised:
        judge(server, **settings).rate("sad", PROMPTS, TEXTS)
    assert "run it again" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_key_that_is_refused_is_said_at_once():
    refused = (401, {}, json.dumps({"error": {"message": "no such key"}}).encode())
    with ScriptedServer(refused) as server, pytest.raises(UsageError, match="the key was refused"):
        judge(server).rate("sad", PROMPTS, TEXTS)
