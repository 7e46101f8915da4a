"""A server that is asked: patience, the cache, money, and each of twelve failures, on a real connection."""

import json
import threading
from dataclasses import replace

import pytest
from explain_fixtures import window
from scripted_server import FAILURES, MENDED, READABLE, ScriptedServer

from gossamer.errors import GossamerError, UsageError
from gossamer.explain import ChatJudge, ChatRequest, Endpoint, EndpointSettings, Prices
from gossamer.explain.answers import classified

WINDOWS = [window("the dog ran", 1), window("a cat sat"), window("my dog", 1), window("no one here"), window("dog", 0)]
TRUTHS = [True, False, True, False, True]
ASKED = ChatRequest("You are asked.", "Say 1.", 5)


def endpoint(server, sleeps=None, **settings):
    # Long enough for a busy machine; a server that hangs costs a second.
    timeout = 1.0 if "hang" in server.script else 30.0
    given = EndpointSettings(server.url, "scripted", **{"timeout": timeout, "attempts": 3, **settings})
    return Endpoint(given, sleep=([] if sleeps is None else sleeps).append)


def constant(text):
    return lambda body: text


@pytest.mark.parametrize("failure", FAILURES)
def test_each_failure_ends_as_it_should(failure):
    sleeps = []
    with ScriptedServer(failure, "right") as server:
        judge = ChatJudge(endpoint(server, sleeps), logprobs=False)
        answers = judge.detect('the word "dog"', WINDOWS)
    found = classified("detection", TRUTHS, answers)
    if failure in (*READABLE, *MENDED):
        assert (found.items.right, found.value) == (5, 1.0)
        assert len(server.requests) == (2 if failure in MENDED else 1)
    else:
        assert found.value is None
        assert (found.items.unparsed, found.items.error) == ((0, 5) if failure == "invalid bytes" else (5, 0))
        assert (found.worst, found.best) == (0, 1)
    # A server that says how long to wait is believed.
    assert sleeps == ([3.0] if failure == "rate limit" else [0.5] if failure in MENDED else [])


@pytest.mark.parametrize("failure", ["rate limit", "server error", "hang"])
def test_a_server_that_goes_on_failing_is_an_error_and_no_zero(failure):
    with ScriptedServer(failure) as server:
        timeout = 0.1 if failure == "hang" else 30.0
        answers = ChatJudge(endpoint(server, timeout=timeout, attempts=2)).detect('the word "dog"', WINDOWS)
    assert len(server.requests) == 2
    found = classified("detection", TRUTHS, answers)
    assert (found.value, found.items.error) == (None, 5)


def test_pauses_grow_and_one_that_is_too_long_is_not_waited_for():
    sleeps = []
    with ScriptedServer("server error") as server:
        (reply,) = endpoint(server, sleeps, attempts=4).ask([ASKED])
    assert sleeps == [0.5, 1.0, 2.0]
    assert "status 500 (oops)" in reply.error
    with ScriptedServer((429, {"Retry-After": "3600"}, b"{}")) as server:
        (reply,) = endpoint(server, sleeps).ask([ASKED])
    assert "a pause of 3600 s" in reply.error
    with ScriptedServer(
        (429, {"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"}, b"{}"), "right", answer=constant("1")
    ) as server:
        assert endpoint(server, sleeps).ask([ASKED])[0].text == "1"
    assert sleeps[3:] == [0.0]


def test_a_prompt_that_is_too_long_is_that_question_s_error_alone():
    too_long = (400, {}, b'{"error": {"message": "maximum context length is 2048 tokens"}}')
    with ScriptedServer(too_long, "right", answer=constant("1")) as server:
        found = endpoint(server, concurrency=1).ask([ASKED, ASKED])
    assert "maximum context length" in found[0].error
    assert found[1].text == "1"


@pytest.mark.parametrize(("status", "said"), [(401, "key was refused"), (403, "access"), (404, "no such address")])
def test_what_no_second_try_would_mend_stops_everything(status, said):
    with ScriptedServer((status, {}, b'{"error": "no"}')) as server, pytest.raises(UsageError, match=said):
        endpoint(server).ask([ASKED])
    assert len(server.requests) == 1


def test_a_server_that_is_down_or_has_another_model_is_refused():
    with ScriptedServer(model="other") as server, pytest.raises(UsageError, match="of scripted expected, found other"):
        endpoint(server).require_model()
    with pytest.raises(UsageError, match="found none"):
        endpoint(server).require_model()
    with ScriptedServer() as server:
        endpoint(server).require_model()


def test_who_answered_is_known():
    with ScriptedServer(answer=constant("1"), model="quite-another") as server:
        asked = endpoint(server)
        assert asked.ask([ASKED])[0].model == "quite-another"
    assert asked.answered_by == {"quite-another"}


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with ScriptedServer(answer=constant("1")) as server:
        asked = endpoint(server, cache=tmp_path)
        asked.ask([ASKED])
    assert server.requests[0][1]["Authorization"] == "Bearer sk-secret"
    assert "secret" not in repr(asked) + repr(asked.settings)
    assert all("secret" not in path.read_text() for path in tmp_path.rglob("*.json"))
    with pytest.raises(UsageError, match="without a key"):
        EndpointSettings("http://me:sk-secret@host/v1", "m")


def test_answers_are_kept_and_asked_for_once(tmp_path):
    other = ChatRequest("You are asked.", "Say 2.", 5)
    with ScriptedServer(answer=lambda body: body["messages"][-1]["content"]) as server:
        first = endpoint(server, cache=tmp_path).ask([ASKED, other])
        again = endpoint(server, cache=tmp_path).ask([other, ASKED])
        assert len(server.requests) == 2
        endpoint(server, cache=tmp_path).ask([replace(ASKED, seed=1)])
        assert len(server.requests) == 3
    assert [one.text for one in first] == ["Say 1.", "Say 2."]
    assert again == first[::-1]
    assert all(one.cached for one in again)


def test_failures_are_not_kept(tmp_path):
    with ScriptedServer("empty", "server error", "right", answer=constant("1")) as server:
        asked = endpoint(server, cache=tmp_path, attempts=1, concurrency=1)
        assert [one.error[:10] for one in asked.ask([ASKED, replace(ASKED, seed=1)])] == ["", "status 500"]
        assert asked.ask([replace(ASKED, seed=1)])[0].text == "1"


def test_no_more_is_asked_at_once_than_allowed():
    gate = threading.Barrier(3, timeout=5)

    def together(body):
        gate.wait()
        return "1"

    with ScriptedServer(answer=together) as server:
        found = endpoint(server, concurrency=3, timeout=5.0).ask([replace(ASKED, seed=one) for one in range(6)])
    assert [one.text for one in found] == ["1"] * 6
    assert server.most_busy == 3


def test_money_is_counted_and_spent_no_further(tmp_path):
    with ScriptedServer(answer=constant("1")) as server:
        # A question costs 100 tokens of 1 dollar and 10 of 2, of a million: .00012 dollars.
        asked = endpoint(server, prices=Prices(1.0, 2.0), max_cost=0.0003, concurrency=1, cache=tmp_path)
        with pytest.raises(GossamerError, match="what was answered is kept"):
            asked.ask([replace(ASKED, seed=one) for one in range(9)])
        assert asked.spent == pytest.approx(0.00036)
        assert len(server.requests) == 3
        # Asked again with more money, those three cost nothing.
        more = endpoint(server, prices=Prices(1.0, 2.0), max_cost=0.01, concurrency=1, cache=tmp_path)
        assert len(more.ask([replace(ASKED, seed=one) for one in range(9)])) == 9
        assert len(server.requests) == 9
    with pytest.raises(UsageError, match="prices"):
        EndpointSettings("http://localhost/v1", "m", max_cost=1.0)


def test_what_is_asked_is_openai_s_form():
    request = ChatRequest("s", "u", 7, schema='{"type": "array"}', top_logprobs=5, seed=3)
    with ScriptedServer(answer=constant("[1]")) as server:
        endpoint(server, structured=True).ask([request])
        endpoint(server).ask([request])
    asked, plain = (body for _, _, body in server.requests)
    assert asked["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert (asked["max_tokens"], asked["temperature"], asked["seed"], asked["top_logprobs"]) == (7, 0.0, 3, 5)
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "array"}
    assert "response_format" not in plain


def test_log_probabilities_become_probabilities():
    with ScriptedServer() as server:
        answers = ChatJudge(endpoint(server)).detect('the word "dog"', WINDOWS)
    assert [one.prediction for one in answers] == TRUTHS
    assert [one.probability for one in answers] == pytest.approx([0.9, 0.1, 0.9, 0.1, 0.9], abs=1e-3)


def test_a_short_last_batch_is_read():
    with ScriptedServer() as server:
        answers = ChatJudge(endpoint(server), batch=3).detect('the word "dog"', WINDOWS)
    assert [one.prediction for one in answers] == TRUTHS
    assert len(server.requests) == 2


def test_log_probabilities_of_a_prompt_by_echo_or_a_refusal():
    echoed = {
        "choices": [
            {
                "text": "a\tunknown",
                "logprobs": {
                    "tokens": ["a", "\t", "unknown"],
                    "top_logprobs": [None, {"\t": -0.1}, {"7": -0.1, "3": -2.5}],
                },
            }
        ]
    }
    with ScriptedServer((200, {}, json.dumps(echoed).encode())) as server:
        found = endpoint(server).prompt_chances("a\tunknown", 5)
    assert found[2].top == {"7": -0.1, "3": -2.5}
    deaf = (200, {}, b'{"choices": [{"text": "anything"}]}')
    with ScriptedServer(deaf) as server, pytest.raises(UsageError, match="ignores echo"):
        endpoint(server).prompt_chances("a\tunknown", 5)


def test_embeddings_come_in_their_order_or_not_at_all():
    data = {"data": [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]}
    with ScriptedServer((200, {}, json.dumps(data).encode())) as server:
        assert endpoint(server).embeddings(["a", "b"]) == [[1, 0], [0, 1]]
        with pytest.raises(UsageError, match="3 texts expected, found 2 vectors"):
            endpoint(server).embeddings(["a", "b", "c"])
