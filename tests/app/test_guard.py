"""What passes the guard: requests of the page itself, and nothing else."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from gossamer.app.guard import LARGEST_BODY, Guard, loopback_hosts, new_token

HOSTS, TOKEN = loopback_hosts(8231), "the-token"
GOOD = {"x-gossamer-token": TOKEN}


async def answers(scope, receive, send):
    """Says how much it was given; /missing is not there."""
    if scope["type"] == "websocket":
        raise AssertionError("reached")
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await PlainTextResponse(str(size), 404 if scope["path"] == "/missing" else 200)(scope, receive, send)


@pytest.fixture(scope="module")
def client():
    return TestClient(Guard(answers, HOSTS, TOKEN), base_url="http://127.0.0.1:8231")


@pytest.mark.parametrize("host", sorted(HOSTS))
def test_the_page_itself_is_answered(client, host):
    headers = {**GOOD, "host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert client.get("/api/v1/run", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8231", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.test:8231", ""]
)
@pytest.mark.parametrize("path", ["/", "/api/v1/run"])
def test_another_host_is_refused(client, host, path):
    refused = client.get(path, headers={**GOOD, "host": host})
    assert refused.status_code == 403
    assert "Host" in refused.json()["detail"]


def test_two_hosts_are_refused(client):
    headers = [("host", "127.0.0.1:8231"), ("host", "evil.test"), ("x-gossamer-token", TOKEN)]
    assert client.get("/api/v1/run", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8231"},
        {"origin": "http://127.0.0.1:9999"},
        # Both are this machine, but the page has one origin.
        {"origin": "http://localhost:8231"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_page_is_refused(client, headers):
    assert client.get("/api/v1/run", headers={**GOOD, **headers}).status_code == 403
    assert client.post("/api/v1/run", headers={**GOOD, **headers}).status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"x-gossamer-token": ""}, {"x-gossamer-token": "the-toke"}, {"x-gossamer-token": "ä"}]
)
def test_data_needs_the_token_and_the_page_does_not(client, headers):
    headers = {name: value.encode() for name, value in headers.items()}
    assert client.get("/api/v1/run", headers=headers).status_code == 401
    assert client.get("/api", headers=headers).status_code == 401
    assert client.get("/", headers=headers).status_code == 200


def test_bodies_are_limited_whether_they_say_their_length_or_not(client):
    def parts(total):
        yield from (b"x" * 65536 for _ in range(total // 65536))

    assert client.post("/api/v1", headers=GOOD, content=b"x" * LARGEST_BODY).text == str(LARGEST_BODY)
    assert client.post("/api/v1", headers=GOOD, content=b"x" * (LARGEST_BODY + 1)).status_code == 413
    assert client.post("/api/v1", headers=GOOD, content=parts(LARGEST_BODY)).text == str(LARGEST_BODY)
    # The test client gathers the parts of a body; a server hands them over one by one.
    # A browser of another test may have a loop of its own in this thread.
    with ThreadPoolExecutor(1) as apart:
        assert apart.submit(asyncio.run, status_of([b"x" * LARGEST_BODY, b"x"])).result() == 413


async def status_of(parts):
    """Status of a request whose body comes in parts and does not say its length."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    said = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        said.append(message)

    headers = [(b"host", b"127.0.0.1:8231"), (b"x-gossamer-token", TOKEN.encode())]
    scope = {"type": "http", "path": "/api/v1", "method": "POST", "headers": headers, "query_string": b""}
    await Guard(answers, HOSTS, TOKEN)(scope, receive, send)
    return said[0]["status"]


def test_every_answer_says_what_a_browser_may_do_with_it(client):
    for answer in (client.get("/"), client.get("/missing"), client.get("/", headers={"host": "evil.test"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers


def test_sockets_are_refused(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/v1", headers=GOOD):
        pass


def test_tokens_are_long_and_differ():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32
