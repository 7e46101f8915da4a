"""Questions to the workbench's routes without a server: what a page on this machine would be answered."""

import asyncio
import base64
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from starlette.types import ASGIApp, Message


class Answered(NamedTuple):
    """What a route said: its status, its headers in lower case, and its body as it is sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is something else."""
        known = self.headers.get("content-type", "").startswith("application/json")
        return json.loads(self.body) if known else None

    @property
    def given(self) -> dict[str, Any]:
        """The answer as a page brings it along, in JSON values."""
        if self.json is None:
            return {"status": self.status, "raw": base64.b64encode(self.body).decode()}
        return {"status": self.status, "body": self.json}


class InProcess:
    """Asks an application from any thread, also one in which a loop runs already, as a notebook's.

    Every question has a loop and a thread of its own, which end with it: nothing is left to be closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def ask(self, path: str, method: str = "GET", body: str | None = None) -> Answered:
        """The answer to one request.

        Args:
            path: with what is asked behind a `?`, as in an address.
            method: of HTTP.
            body: JSON.
        """
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(self._asked(path, method, body))).result()

    async def _asked(self, path: str, method: str, body: str | None) -> Answered:
        before, _, query = path.partition("?")
        status, headers, parts = 500, {}, []

        async def receive() -> Message:
            return {"type": "http.request", "body": (body or "").encode(), "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            else:
                parts.append(message.get("body", b""))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(before),
            "raw_path": before.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"host", b"in-process")],
            "client": None,
            "server": None,
        }
        await self._app(scope, receive, send)
        return Answered(status, headers, b"".join(parts))


def key_of(path: str, body: str | None = None) -> str:
    """A question as a table of answers has it, whoever asks; `answers.ts` makes the same."""
    before, _, query = path.partition("?")
    asked = sorted(f"{name}={value}" for name, value in parse_qsl(query, keep_blank_values=True))
    given = "" if body is None else f" {_ordered(body)}"
    return unquote(before) + (f"?{'&'.join(asked)}" if asked else "") + given


def _ordered(body: str) -> str:
    return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
