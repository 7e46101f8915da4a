"""What every request has to pass: who asks, from where, with which token and how much; and what every answer says.

A page of the web that is open in the same browser can send requests to this machine, and by DNS rebinding even read the
answers. So Host and Origin are compared on every request, and data is given only to who holds the token of this start.
"""

import json
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-gossamer-token"
LARGEST_BODY = 2**20
_POLICY = (
    "default-src 'self'; connect-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAID = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Refused(Exception):  # noqa: N818 - no error of ours: somebody asked for what is not given
    """A request that is not answered, with the status that it gets."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def new_token() -> str:
    """A token for one start of the server."""
    return secrets.token_urlsafe(24)


def loopback_hosts(port: int) -> frozenset[str]:
    """What Host may say when a browser on this machine asks."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


class Guard:
    """Refuses what did not come from the workbench's own page, before anything is read of it.

    Args:
        app: what answers.
        hosts: values of Host that are meant: names with ports.
        token: what requests under /api have to carry in X-Gossamer-Token.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str) -> None:
        self._app, self._hosts, self._token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "only HTTP is spoken here"})
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(_SAID)
            await send(message)

        try:
            self._require(scope)
            await self._app(scope, _limited(receive), answer)
        except Refused as refusal:
            if not begun:
                await _refuse(refusal, answer)

    def _require(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            raise Refused(403, f"Host: one of {', '.join(sorted(self._hosts))} expected; open the address as printed")
        origins = headers.getlist("origin")
        if origins and origins != [f"http://{hosts[0]}"]:
            raise Refused(403, "Origin: the workbench's own page expected, found another")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "Sec-Fetch-Site: the workbench's own page expected, found another")
        given = headers.get(TOKEN_HEADER, "")
        if scope["path"].startswith("/api") and not secrets.compare_digest(given.encode(), self._token.encode()):
            raise Refused(401, "X-Gossamer-Token: the token of this start expected; open the address as printed")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            raise Refused(413, f"a body of at most {LARGEST_BODY} bytes expected")


def _limited(receive: Receive) -> Receive:
    """Bodies that do not say how long they are end where they become too long."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY:
            raise Refused(413, f"a body of at most {LARGEST_BODY} bytes expected")
        return message

    return counted


async def _refuse(refusal: Refused, send: Send) -> None:
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
