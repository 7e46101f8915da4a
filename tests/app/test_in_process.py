"""Questions without a server: the answers are those of the server, and the table names them as the page does."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from workbench_run import bench_of

from gossamer.app.in_process import InProcess, key_of
from gossamer.app.server import api, exported_paths


@pytest.fixture(scope="module")
def routes(bench):
    return InProcess(api(bench))


def without_time(answer):
    return {**answer, "generated_at": None}


def test_answers_are_those_of_the_server(routes, ask, made):
    node = made[2].nodes[0].node
    for path in ("/api/v1/run", "/api/v1/circuits/circuit?max_nodes=3", f"/api/v1/circuits/circuit/nodes?name={node}"):
        assert without_time(routes.ask(path).json) == without_time(ask.get(path).json())
    body = {"text": "The boys", "count": 2}
    posted = routes.ask("/api/v1/dicts/circuit/prompt", "POST", json.dumps(body)).json
    assert without_time(posted) == without_time(ask.post("/api/v1/dicts/circuit/prompt", json=body).json())
    refused = routes.ask("/api/v1/circuits/nothing")
    assert (refused.status, "not in run" in refused.json["detail"]) == (404, True)


def test_a_file_is_bytes(routes):
    found = routes.ask("/api/v1/circuits/circuit/export?format=graphml")
    assert (found.status, found.json) == (200, None)
    assert found.body.startswith(b"<graphml")


def test_it_can_be_asked_where_a_loop_runs(routes):
    async def asked():
        return routes.ask("/api/v1/run").status

    # In a thread of its own: that of the tests may have the browser's loop.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: asyncio.run(asked())).result() == 200


def test_keys_do_not_depend_on_order_or_escapes():
    assert key_of("/a/b%20c?y=2&x=resid_post.3%2F5%40END") == "/a/b c?x=resid_post.3/5@END&y=2"
    assert key_of("/a", '{"b": [1, {"d": null, "c": "ä"}], "a": true}') == '/a {"a":true,"b":[1,{"c":"ä","d":null}]}'
    assert key_of("/a?x=") == "/a?x="


def test_what_an_exported_page_asks_needs_no_model(made):
    bench = bench_of(made[0])
    bench.offline, bench.live.turn = "exported", None
    routes, paths = InProcess(api(bench)), list(exported_paths(bench))
    assert {routes.ask(path).status for path in paths} == {200}
    assert routes.ask("/api/v1/circuits/circuit").json["live"] == "exported"
    refused = routes.ask("/api/v1/circuits/circuit/prompts")
    assert (refused.status, refused.json["detail"]) == (422, "exported")
    nodes = [path for path in paths if "/nodes?" in path]
    assert len(nodes) == len(made[2].nodes)
