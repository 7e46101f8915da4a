"""Jobs: one at a time, cancelled or going on, nothing lost; over a real server, and what the guard makes of streams."""

import http.client
import json
import threading
import time

import pytest
from explain_fixtures import planted_store
from workbench_run import TOKEN, bench_of, serving

from gossamer.app import live_work
from gossamer.app.jobs import Jobs
from gossamer.app.live import MOST_WAITING, BusyError
from gossamer.app.run_folder import UnknownError
from gossamer.app.schema.jobs import Progress
from gossamer.errors import UsageError
from gossamer.steering.side_by_side import Chosen, SideBySide


def said(text):
    return Progress(event="progress", said=text)


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


class Held:
    """Work that says a word, waits to be let go, and says another."""

    def __init__(self):
        self.gate, self.ran = threading.Event(), 0

    def __call__(self, job):
        self.ran += 1
        job.say(said("one"))
        assert self.gate.wait(20)
        job.say(said("two"))


def words(job):
    return [one.said if one.event == "progress" else one.event for one in job.events]


def test_jobs_are_done_one_at_a_time_in_their_order():
    jobs, first, second = Jobs(), Held(), Held()
    one, two = jobs.begin("a", "1", "goes on", first), jobs.begin("a", "2", "goes on", second)
    until(lambda: words(one) == ["started", "one"])
    assert (second.ran, two.state, jobs.ahead(two)) == (0, "waiting", 1)
    first.gate.set()
    second.gate.set()
    until(lambda: two.ended)
    assert words(one) == words(two) == ["started", "one", "two", "done"]
    assert jobs.all() == [one, two]


def test_a_job_is_cancelled_while_it_waits_and_while_it_works():
    jobs, first, second = Jobs(), Held(), Held()
    one, two = jobs.begin("a", "1", "goes on", first), jobs.begin("a", "2", "goes on", second)
    until(lambda: one.state == "running" and first.ran)
    two.cancel()
    assert (two.state, words(two)) == ("cancelled", ["cancelled"])
    one.cancel()
    first.gate.set()
    until(lambda: one.ended)
    assert words(one) == ["started", "one", "cancelled"]
    three = jobs.begin("a", "3", "goes on", lambda job: job.say(said("well")))
    until(lambda: three.ended)
    assert words(three) == ["started", "well", "done"]
    assert second.ran == 0


def test_who_stops_listening_cancels_or_not():
    jobs, holds = Jobs(), [Held(), Held()]
    stops, goes = (
        jobs.begin("a", end, end, hold) for end, hold in zip(("is cancelled", "goes on"), holds, strict=True)
    )
    with stops.listening(), stops.listening():
        pass
    with goes.listening():
        pass
    for hold in holds:
        hold.gate.set()
    until(lambda: goes.ended)
    assert (stops.state, goes.state) == ("cancelled", "done")


def test_what_goes_wrong_is_said_and_the_worker_lives():
    jobs = Jobs()

    def refused(job):
        raise UsageError("latent: one expected")

    def broken(job):
        raise ZeroDivisionError("secret")

    def large(job):
        raise MemoryError

    ended = [jobs.begin("a", str(work), "goes on", work) for work in (refused, broken, large)]
    until(lambda: all(one.ended for one in ended))
    assert [one.state for one in ended] == ["failed"] * 3
    assert ended[0].events[-1].message == "latent: one expected"
    assert "ZeroDivisionError" in ended[1].events[-1].message
    assert "secret" not in ended[1].events[-1].message
    assert "not enough memory" in ended[2].events[-1].message


def test_the_queue_is_short_and_old_jobs_are_forgotten():
    jobs, held = Jobs(), Held()
    jobs.begin("a", "0", "goes on", held)
    until(lambda: held.ran == 1)
    waiting = [jobs.begin("a", "1", "goes on", lambda job: None) for _ in range(MOST_WAITING)]
    with pytest.raises(BusyError, match="at most 16"):
        jobs.begin("a", "2", "goes on", lambda job: None)
    held.gate.set()
    until(lambda: waiting[-1].ended)
    for _ in range(40):
        until(lambda: all(one.ended for one in jobs.all()))
        last = jobs.begin("a", "3", "goes on", lambda job: None)
    until(lambda: last.ended)
    assert len(jobs.all()) <= 34
    with pytest.raises(UnknownError, match="ended long ago"):
        jobs.job(waiting[0].id)
    assert jobs.job(last.id) is last


@pytest.fixture(scope="module")
def served(made):
    bench = bench_of(made[0])
    with serving(bench) as address:
        yield bench, port_of(address)


def port_of(address):
    return int(address.rpartition(":")[2])


def asked(port, method, path, body=None, **headers):
    """A request as the page sends it; the caller reads the answer, and closes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    known = {"X-Gossamer-Token": TOKEN, "Content-Type": "application/json", **headers}
    connection.request(method, path, None if body is None else json.dumps(body), known)
    return connection, connection.getresponse()


def events(answer):
    """Name and data of each event of a stream."""
    found = []
    for block in answer.read().decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def test_events_are_streamed_and_can_be_asked_for_again(served):
    bench, port = served
    held = Held()
    job = bench.jobs.begin("a", "1", "goes on", held)
    connection, answer = asked(port, "GET", f"/api/v1/jobs/{job.id}/events")
    assert answer.getheader("content-type").startswith("text/event-stream")
    assert answer.getheader("cache-control") == "no-store"
    heard = b""
    while b"one" not in heard:
        heard += answer.read1()
    assert not job.ended
    held.gate.set()
    until(lambda: job.ended)
    assert b"done" in answer.read()
    connection.close()
    connection, answer = asked(port, "GET", f"/api/v1/jobs/{job.id}/events?after=2")
    assert [one[:2] for one in events(answer)] == [(2, "progress"), (3, "done")]
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.test"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"X-Gossamer-Token": "another"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_streams_pass_the_same_checks(served, headers, status):
    bench, port = served
    job = bench.jobs.begin("a", "1", "goes on", lambda job: None)
    for method, path in (("GET", f"/api/v1/jobs/{job.id}/events"), ("POST", "/api/v1/steer")):
        connection, answer = asked(port, method, path, {} if method == "POST" else None, **headers)
        assert answer.status == status
        connection.close()


def test_a_page_that_is_closed_cancels_what_only_it_wanted(served):
    bench, port = served
    for end, state in (("is cancelled", "cancelled"), ("goes on", "done")):
        held = Held()
        job = bench.jobs.begin("a", end, end, held)
        connection, answer = asked(port, "GET", f"/api/v1/jobs/{job.id}/events")
        heard = b""
        while b"one" not in heard:
            heard += answer.read1()
        answer.close()
        connection.close()
        # The server notices, and the work stops at its next word, or goes on to its end.
        until(lambda job=job: job._listening == 0)
        held.gate.set()
        until(lambda job=job: job.ended)
        assert job.state == state
        connection, answer = asked(port, "GET", f"/api/v1/jobs/{job.id}")
        page = json.loads(answer.read())
        assert (page["job"]["state"], page["job"]["on_close"]) == (state, end)
        assert [one["event"] for one in page["events"]][:2] == ["started", "progress"]
        connection.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/jobs/0123456789abcdef", 404), ("/api/v1/jobs/..%2f..%2fetc", 404), ("/api/v1/jobs/nothing", 422)],
)
def test_ids_of_jobs_are_looked_up_and_never_paths(served, path, status):
    connection, answer = asked(served[1], "GET", path)
    assert answer.status == status
    connection.close()


def steer(made, **more):
    feature = str(made[2].nodes[0].card.feature)
    spec = {"feature": feature, "mode": "add", "strength": 0.5, "unit": "residual_norm"}
    return {"dictionaries": "circuit", "prompt": "The boys near the", "specs": [spec], "n_tokens": 6, **more}


def test_steering_streams_both_texts_and_then_the_price(served, made):
    bench, port = served
    feature = str(made[2].nodes[0].card.feature)
    specs = [
        {"feature": feature, "mode": mode, "strength": 1.5, "unit": "raw"}
        for mode in ("add", "clamp", "scale", "project")
    ]
    connection, answer = asked(port, "POST", "/api/v1/steer", steer(made, specs=specs, words=["dog"], temperature=0))
    heard = events(answer)
    connection.close()
    names = [one[1] for one in heard]
    assert names[0] == "started"
    assert names[-2:] == ["price", "done"]
    tokens = [one[2] for one in heard if one[1] == "token"]
    assert 1 <= len(tokens) <= 6
    price = heard[-2][2]
    assert [one["kind"] for one in price["pushes"]] == ["feature_add", "clamp", "scale", "project_out"]
    assert price["kl"] > 0
    text = "".join(one["default"]["word"] for one in tokens if one["default"])
    assert price["default_hits"] == text.split().count("dog")
    # At temperature 0 the default text is what the model writes by itself.
    with bench.model("circuit") as live:
        alone = live.model.generate(["The boys near the"], max_new_tokens=6).new
        words_ = [live.model.word(token) for token in alone.ids[0][alone.mask[0]].tolist()]
    assert [one["default"]["word"] for one in tokens if one["default"]] == words_


def slowly(*_):
    """A text that takes its time, as that of a large model does."""
    for place in range(200):
        yield SideBySide(Chosen(place, " word", 0.5), Chosen(place, " sad", 0.5))
        time.sleep(0.05)


def test_steering_is_cancelled_by_closing(served, made, monkeypatch):
    monkeypatch.setattr(live_work, "side_by_side", slowly)
    bench, port = served
    connection, answer = asked(port, "POST", "/api/v1/steer", steer(made))
    job = bench.jobs.job(answer.getheader("x-gossamer-job"))
    heard = b""
    while b"event: token" not in heard:
        heard += answer.read1()
    answer.close()
    connection.close()
    until(lambda: job.ended)
    assert job.state == "cancelled"
    assert "price" not in [one.event for one in job.events]


@pytest.mark.parametrize(
    ("more", "said_"),
    [
        ({"specs": []}, "specs"),
        ({"n_tokens": 513}, "n_tokens"),
        ({"dictionaries": "nothing"}, "nothing"),
        ({"specs": [{"feature": "resid_post.0/1", "mode": "scale", "unit": "residual_norm"}]}, "unit raw expected"),
        ({"specs": [{"feature": "nonsense", "mode": "add"}]}, "nonsense"),
        ({"specs": [{"feature": "resid_post.0/1"}] * 17}, "specs"),
        ({"temperature": "nan"}, "temperature"),
    ],
)
def test_what_cannot_be_steered_is_refused_at_once(served, made, more, said_):
    connection, answer = asked(served[1], "POST", "/api/v1/steer", steer(made, **more))
    assert answer.status in (404, 422)
    assert said_ in answer.read().decode()
    connection.close()


@pytest.mark.parametrize(
    ("more", "said_"),
    [
        ({"specs": [{"feature": "SITE/99999999", "mode": "add"}]}, "a latent from 0"),
        ({"specs": [{"feature": "resid_mid.0/1", "mode": "add"}]}, "a site of the dictionaries"),
        ({"prompt": "The boys " * 400}, "at most"),
    ],
)
def test_what_the_model_refuses_is_the_last_event(served, made, more, said_):
    site = str(made[2].nodes[0].site)
    body = json.loads(json.dumps(steer(made, **more)).replace("SITE", site))
    connection, answer = asked(served[1], "POST", "/api/v1/steer", body)
    (*_, (_, name, data)) = events(answer)
    assert name == "failed"
    assert said_ in data["message"]
    connection.close()


def test_a_latent_is_explained_and_kept_though_nobody_listens(tmp_path):
    planted_store(tmp_path / "run" / "store", count=400)
    bench = bench_of(tmp_path / "run")
    (store,) = (part.id for part in bench.run.parts().values() if part.kind == "feature store")
    with serving(bench) as address:
        port = port_of(address)
        body = {"job": {"kind": "explain", "store": store, "feature": "resid_pre.0/3"}}
        connection, answer = asked(port, "POST", "/api/v1/jobs", body)
        begun = json.loads(answer.read())["job"]
        connection.close()
        assert begun["on_close"] == "goes on"
        connection, answer = asked(port, "GET", f"/api/v1/jobs/{begun['id']}/events")
        answer.close()
        connection.close()
        until(lambda: bench.jobs.job(begun["id"]).ended, 60)
        page = bench.jobs.job(begun["id"])
        assert [one.event for one in page.events] == ["started", "progress", "progress", "explained", "done"]
        told = page.events[-2]
        assert '" school"' in told.text
        (detection,) = (one for one in told.scores if one.scorer == "detection" and not one.control)
        assert detection.value == 1.0
        # The view of explanations shows what was kept.
        (kept,) = (part.id for part in bench.run.parts().values() if part.kind == "explanations")
        connection, answer = asked(port, "GET", f"/api/v1/explanations/{kept}")
        (row,) = json.loads(answer.read())["rows"]
        assert (row["feature"], row["text"]) == ("resid_pre.0/3", told.text)
        connection.close()
        bad = {"job": {"kind": "explain", "store": "nothing", "feature": "resid_pre.0/3"}}
        connection, answer = asked(port, "POST", "/api/v1/jobs", bad)
        assert answer.status == 404
        connection.close()
