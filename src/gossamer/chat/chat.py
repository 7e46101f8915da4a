"""Asking a language model: what is asked and what comes back, wherever the model runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from gossamer.display import short_repr
from gossamer.results import digest
from gossamer.statistics import Interval

# Letters of a token of English, for estimates.
LETTERS_PER_TOKEN = 4
# AUROC that a judge must reach on questions whose answers are known.
ABLE = 0.8
# Above this share of failures what was asked for has no score.
MOST_FAILURES = 0.2


class Ability(StrEnum):
    """What a judge is worth by questions whose answers are known; nothing that one says that is not able is shown."""

    ABLE = "able"
    AT_CHANCE = "at chance"
    UNANSWERED = "did not answer"


def ability(found: Interval | None) -> Ability:
    """A judge's by its score on questions whose answers are known: able from .8 on, if the interval is above .5.

    Args:
        found: None where more than a fifth of the questions, or all of one kind, have no answer.
    """
    if found is None:
        return Ability.UNANSWERED
    return Ability.ABLE if found.value >= ABLE and found.low > 0.5 else Ability.AT_CHANCE


@dataclass(frozen=True)
class ChatRequest:
    """One question.

    Attributes:
        system, user: the two messages; the system message is the part that many questions share.
        max_tokens: of the answer.
        schema: a JSON schema that the answer keeps to, as JSON text, where the server can do that; "" for none.
        top_logprobs: likeliest tokens whose log-probabilities are wanted at each token of the answer.
        temperature, seed: of the answer.
    """

    system: str
    user: str
    max_tokens: int = 200
    schema: str = ""
    top_logprobs: int = 0
    temperature: float = 0.0
    seed: int = 0

    __repr__ = short_repr

    @property
    def letters(self) -> int:
        """Of both messages."""
        return len(self.system) + len(self.user)

    def body(self, model: str) -> dict[str, Any]:
        """As the chat API of OpenAI takes it."""
        messages = [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]
        found: dict[str, Any] = {
            "model": model,
            "messages": [one for one in messages if one["content"]],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }
        if self.top_logprobs:
            found |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        if self.schema:
            described = {"name": "answer", "schema": json.loads(self.schema), "strict": True}
            found["response_format"] = {"type": "json_schema", "json_schema": described}
        return found

    def key(self, model: str) -> str:
        """SHA-256 of all that an answer depends on."""
        return digest(self.body(model))


@dataclass(frozen=True)
class TokenChances:
    """A token of an answer with the likeliest tokens at its place.

    Attributes:
        token: the token.
        top: log-probabilities by token.
    """

    token: str
    top: Mapping[str, float]

    __repr__ = short_repr


@dataclass(frozen=True)
class ChatReply:
    """What came back.

    Attributes:
        text: the answer; "" where there is none.
        error: why there is none.
        finish: "stop", or "length" where it was cut.
        model: the name that the server gave for itself.
        chances: of each token, where asked for.
        prompt_tokens, output_tokens: as the server counts them.
        cached: it came from disk.
    """

    text: str = ""
    error: str = ""
    finish: str = "stop"
    model: str = ""
    chances: tuple[TokenChances, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached: bool = field(default=False, compare=False)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"error {self.error!r}" if self.error else repr(self.text[:80])


class Failure(StrEnum):
    """Why a question has no answer that counts; never a zero."""

    UNPARSED = "unparsed"
    ERROR = "error"


@runtime_checkable
class Chat(Protocol):
    """A language model that answers questions.

    Attributes:
        model: its name.
    """

    model: str

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """An answer to each, in their order; one that fails has an error.

        Raises:
            UsageError: no question could be answered, as with a wrong key or address.
            GossamerError: the money that may be spent is spent.
        """


@runtime_checkable
class PromptScorer(Protocol):
    """A language model that says how likely the tokens of a prompt are."""

    def prompt_chances(self, prompt: str, top: int) -> list[TokenChances]:
        """Every token of a prompt with the likeliest tokens at its place.

        Raises:
            UsageError: it cannot say.
        """
