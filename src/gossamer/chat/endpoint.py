"""Any server with OpenAI's chat API: many questions at once, patient, cheap to ask again, and within a budget."""

import email.utils
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gossamer.chat.chat import ChatReply, ChatRequest, TokenChances
from gossamer.display import short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.files import needed, read_json, write_json

EXTRA = '"gossamer[explain]"'
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
# What no second question would change.
_FATAL = {401: "the key was refused", 403: "access was refused", 404: "there is no such address or model"}


@dataclass(frozen=True)
class Prices:
    """In dollars, of a million tokens."""

    input: float = 0.0
    output: float = 0.0

    def of(self, prompt_tokens: float, output_tokens: float) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(frozen=True)
class EndpointSettings:
    """How a server is asked.

    Attributes:
        base_url: up to and with /v1.
        model: its name there.
        key_variable: environment variable with the key; it may be unset where the server wants none.
        timeout: seconds for an answer.
        concurrency: questions at once.
        attempts: of a question, the first included.
        longest_wait: seconds; a server that asks for a longer pause is given up for the question.
        structured: ask for answers by a JSON schema.
        prices: of tokens.
        max_cost: dollars that may be spent; None for any.
        cache: folder of answers; None for none.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    concurrency: int = 8
    attempts: int = 5
    longest_wait: float = 60.0
    structured: bool = False
    prices: Prices = field(default_factory=Prices)
    max_cost: float | None = None
    cache: Path | None = None

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s@]+", self.base_url):
            raise UsageError(
                f"endpoint: http://HOST/v1 or https://HOST/v1 without a key in it expected, found {self.base_url!r}"
            )
        if not self.model:
            raise UsageError("endpoint: the name of a model expected, found none; give one")
        if min(self.concurrency, self.attempts) < 1 or self.timeout <= 0:
            raise UsageError("endpoint: concurrency and attempts of at least 1 and a timeout above 0 expected")
        if self.max_cost is not None and not (self.prices.input or self.prices.output):
            raise UsageError("endpoint: prices expected with a largest cost; give what a million tokens cost")


class Endpoint:
    """A server with OpenAI's chat API (vLLM, Ollama, llama.cpp's server, a hosted one).

    Questions that were answered before are read from disk and cost nothing, so that work that was stopped goes on. The
    key is read from the environment and written nowhere.

    Attributes:
        model: the name that is asked for.
        spent: dollars so far.
        answered_by: names that the server gave for the model.
    """

    def __init__(self, settings: EndpointSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Nothing is asked yet.

        Raises:
            UsageError: httpx is not installed.
        """
        self._httpx = needed("httpx", "asking a server", EXTRA)
        self.settings, self.model, self.spent = settings, settings.model, 0.0
        self.answered_by: set[str] = set()
        self._sleep, self._lock = sleep, threading.Lock()
        key = os.environ.get(settings.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = self._httpx.Limits(max_connections=settings.concurrency)
        # A server on this machine is never asked through a proxy, whatever the environment says.
        local = re.match(r"https?://(localhost|127\.0\.0\.1|\[::1\])[:/]", settings.base_url + "/") is not None
        self._client = self._httpx.Client(
            headers=headers, timeout=settings.timeout, limits=limits, trust_env=not local, follow_redirects=False
        )

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.model} at {self.settings.base_url}"

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def require_model(self) -> None:
        """Refuse a server that is down, or that lists other models only.

        Raises:
            UsageError: saying which.
        """
        address = f"{self.settings.base_url.rstrip('/')}/models"
        try:
            response = self._client.get(address)
        except self._httpx.HTTPError as error:
            raise UsageError(f"{address}: a server expected, found none ({_said(error)}); start it") from error
        if response.status_code in _FATAL and response.status_code != 404:
            raise self._fatal(response)
        try:
            listed = [str(one["id"]) for one in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            # Some servers list nothing; the first question will tell.
            return
        if listed and self.model not in listed:
            raise UsageError(f"{address}: a server of {self.model} expected, found {', '.join(sorted(listed)[:8])}")

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """See :class:`gossamer.chat.chat.Chat`."""
        if self.settings.structured is False:
            requests = [replace(one, schema="") for one in requests]
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            waiting = [pool.submit(self._answer, one) for one in requests]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                for one in waiting:
                    one.cancel()
                raise

    def _answer(self, request: ChatRequest) -> ChatReply:
        path = self._cached(request)
        if path is not None and path.is_file():
            return replace(_from_json(read_json(path)), cached=True)
        self._require_money()
        reply = self._patiently("chat/completions", request.body(self.model), _chat_reply)
        if not reply.error:
            with self._lock:
                self.spent += self.settings.prices.of(float(reply.prompt_tokens), float(reply.output_tokens))
                self.answered_by.add(reply.model)
            if path is not None:
                write_json(path, asdict(reply))
        return reply

    def prompt_chances(self, prompt: str, top: int) -> list[TokenChances]:
        """See :class:`gossamer.chat.chat.PromptScorer`: the older completions API with `echo`, where it has that."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": top, "temperature": 0}
        self._require_money()
        reply = self._patiently("completions", body, _echo_reply)
        if reply.error:
            raise UsageError(f"{self.settings.base_url}: log-probabilities of a prompt expected, found {reply.error}")
        if not reply.text.startswith(prompt[:20]) or not reply.chances:
            raise UsageError(
                f"{self.settings.base_url}: log-probabilities of a prompt expected, found a server that ignores echo; "
                "simulate one token at a time, or by a list"
            )
        return list(reply.chances)

    def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector a text, where the server has them.

        Raises:
            UsageError: it has none, or gave others than were asked for.
        """
        self._require_money()
        found: list[list[float]] = []

        def read(value: Any) -> ChatReply:
            ordered = sorted(value["data"], key=lambda one: one["index"])
            found.extend([float(number) for number in one["embedding"]] for one in ordered)
            return ChatReply(text="vectors")

        reply = self._patiently("embeddings", {"model": self.model, "input": list(texts)}, read)
        if reply.error or len(found) != len(texts) or len({len(one) for one in found}) > 1:
            what = reply.error or f"{len(found)} vectors"
            raise UsageError(
                f"{self.settings.base_url}: a vector for each of {len(texts)} texts expected, found {what}"
            )
        return found

    def _require_money(self) -> None:
        most = self.settings.max_cost
        if most is not None and self.spent >= most:
            raise GossamerError(
                f"endpoint: {self.spent:.2f} of at most {most:.2f} dollars spent; what was answered is kept: run it "
                "again with a larger --max-cost to go on"
            )

    def _patiently(self, path: str, body: dict[str, Any], read: Callable[[Any], ChatReply]) -> ChatReply:
        """A question until it is answered, refused or asked often enough."""
        address, error = f"{self.settings.base_url.rstrip('/')}/{path}", ""
        for attempt in range(self.settings.attempts):
            wait = min(2.0**attempt / 2, self.settings.longest_wait)
            try:
                response = self._client.post(address, json=body)
            except self._httpx.HTTPError as found:
                error = _said(found)
            else:
                if response.status_code in _FATAL:
                    raise self._fatal(response)
                if response.status_code == 200:
                    return _read(response.content, read)
                error = f"status {response.status_code} ({_reason(response.content)})"
                if response.status_code not in _AGAIN:
                    return ChatReply(error=error)
                wait = _retry_after(response.headers.get("Retry-After"), wait)
            if wait > self.settings.longest_wait:
                return ChatReply(error=f"{error}; the server asks for a pause of {wait:.0f} s")
            if attempt + 1 < self.settings.attempts:
                self._sleep(wait)
        return ChatReply(error=error)

    def _fatal(self, response: Any) -> UsageError:
        what, reason = _FATAL[response.status_code], _reason(response.content)
        return UsageError(
            f"{self.settings.base_url}: an answer expected, found that {what} ({reason}); check --endpoint, the name "
            f"of the model and {self.settings.key_variable}"
        )

    def _cached(self, request: ChatRequest) -> Path | None:
        if self.settings.cache is None:
            return None
        key = request.key(self.model)
        return self.settings.cache / key[:2] / f"{key}.json"


def _read(content: bytes, read: Callable[[Any], ChatReply]) -> ChatReply:
    try:
        return read(json.loads(content.decode()))
    except UnicodeDecodeError:
        return ChatReply(error="no UTF-8 in the answer")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ChatReply(error=f"no answer of the chat API ({content[:80]!r})")


def _chat_reply(value: Any) -> ChatReply:
    choice, usage = value["choices"][0], value.get("usage") or {}
    chances = tuple(
        TokenChances(str(one["token"]), {str(other["token"]): float(other["logprob"]) for other in one["top_logprobs"]})
        for one in ((choice.get("logprobs") or {}).get("content") or ())
    )
    return ChatReply(
        text=str(choice["message"].get("content") or ""),
        finish=str(choice.get("finish_reason") or "stop"),
        model=str(value.get("model") or ""),
        chances=chances,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
    )


def _echo_reply(value: Any) -> ChatReply:
    choice = value["choices"][0]
    found = choice.get("logprobs") or {}
    if "tokens" not in found or "top_logprobs" not in found:
        return ChatReply(text=str(choice["text"]))
    pairs = zip(found["tokens"], found["top_logprobs"], strict=True)
    chances = (TokenChances(str(token), {str(k): float(v) for k, v in (top or {}).items()}) for token, top in pairs)
    return ChatReply(text=str(choice["text"]), chances=tuple(chances))


def _from_json(value: dict[str, Any]) -> ChatReply:
    chances = tuple(TokenChances(one["token"], one["top"]) for one in value["chances"])
    return ChatReply(**{**value, "chances": chances})


def _retry_after(header: str | None, otherwise: float) -> float:
    """Seconds that a server asks to wait: a number, or a date."""
    if header is None:
        return otherwise
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return otherwise


def _reason(content: bytes) -> str:
    text = content[:2000].decode(errors="replace")
    try:
        found = json.loads(text)["error"]
        text = str(found.get("message", found) if isinstance(found, dict) else found)
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(text.split())[:200] or "nothing said"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")[:200]
