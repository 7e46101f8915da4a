"""Requests of every shape the schema allows and of shapes it forbids: each is answered, and none breaks the server.

The suite sends some hundred; `GOSSAMER_REQUESTS=10000` sends that many.
"""

import os
import shutil
from collections import Counter

import pytest
import schemathesis
from adversarial_run import write_adversarial
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from relations_run import write_relations
from schemathesis import GenerationMode
from sweep_run import write_sweep
from workbench_run import bench_of, client_of

from gossamer.app.openapi import openapi

REQUESTS = int(os.environ.get("GOSSAMER_REQUESTS", "400"))
SCHEMA = schemathesis.openapi.from_dict(openapi())
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
EACH = max(4, REQUESTS // len(OPERATIONS))
SOME = settings(
    max_examples=EACH,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def own(stored, tmp_path_factory):
    """A workbench of a copy of the run, with results of other kinds beside: some requests save views."""
    folder = shutil.copytree(stored, tmp_path_factory.mktemp("requests") / "run")
    write_relations(folder / "relations")
    write_sweep(folder / "steering")
    write_adversarial(folder / "adversarial")
    return bench_of(folder)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_no_request_breaks_the_server(operation, own, made):
    ask = client_of(own)
    names = [str(one.node) for one in made[1].circuit.nodes]
    said = Counter()

    @SOME
    @given(
        case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)),
        part=st.sampled_from([*own.run.parts(), None]),
        node=st.sampled_from([*names, None]),
    )
    def send(case, part, node):
        _meant(case, part, node)
        request = case.as_transport_kwargs(base_url=str(ask.base_url))
        sent = {name: request.get(name) for name in ("params", "json", "content") if request.get(name) is not None}
        if "data" in request:
            sent["content"] = request["data"]
        answer = ask.request(request["method"], request["url"], **sent)
        said[answer.status_code] += 1
        assert answer.status_code < 500, f"{request['method']} {request['url']} {sent!r:.2000}: {answer.text}"
        if answer.headers["content-type"] == "application/json":
            assert answer.json() is not None

    send()
    # A route that takes nothing has few different requests.
    assert sum(said.values()) >= min(EACH // 2, 50)


def _meant(case, part, node):
    """Names of what there is in place of made-up ones, now and then: else all that is asked for would be unknown."""
    for name in {"circuit", "dictionaries", "part", "sweep", "study"} & set(case.path_parameters or {}):
        case.path_parameters[name] = case.path_parameters[name] if part is None else part
    if part is not None and "store" in (case.query or {}):
        case.query["store"] = part
    if node is None:
        return
    feature = node.partition("@")[0]
    for name, value in {"name": node, "feature": feature, "site": feature.partition("/")[0], "q": feature}.items():
        if name in (case.query or {}):
            case.query[name] = value
    if isinstance(case.body, dict) and "feature" in case.body:
        case.body["feature"] = feature
    if isinstance(case.body, dict) and isinstance(case.body.get("nodes"), list):
        case.body["nodes"] = [node]
