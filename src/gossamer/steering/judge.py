"""A judge of completions: AxBench's three ratings, asked of a language model, and their score.

Anything that rates completions fits into a sweep (:class:`CompletionJudge`); :class:`ChatCompletionJudge` asks a server
with OpenAI's API, or a model in this process. An answer that cannot be read, or that never came, is a
:class:`gossamer.chat.Failure` and is counted apart: as a zero it would look like a failure of steering.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from gossamer.chat.chat import Chat, ChatRequest, Failure
from gossamer.chat.templates import Templates
from gossamer.display import short_repr
from gossamer.errors import GossamerError, UsageError

_TEMPLATES = Templates("gossamer.steering")
# Letters of an answer: "Rating: 2", with some words around it.
_ANSWER_TOKENS = 24
# The number after the word, unless others follow it, as where the question is repeated.
_RATING = re.compile(r"rating\W*(\d+(?:\.\d+)?)(?![\d.]*\s*(?:,|/|or|to|-)\s*\d)", re.IGNORECASE)


class Ratings(NamedTuple):
    """AxBench's three ratings, each from 0 to 2 (Wu et al. 2025, arXiv 2501.17148)."""

    concept: float
    instruction: float
    fluency: float


@runtime_checkable
class CompletionJudge(Protocol):
    """Anything that rates completions."""

    @property
    def name(self) -> str:
        """What records call it."""

    def rate(self, concept: str, prompts: Sequence[str], completions: Sequence[str]) -> Sequence[Ratings | Failure]:
        """Ratings of each completion of its prompt, in their order, or why there are none.

        The judge sees neither the method nor the coefficient; completions of all of a batch's cells come shuffled.
        """


class ChatCompletionJudge:
    """Asks a language model for the three ratings, a question each, at temperature 0.

    An answer that cannot be read is asked for again, at most `retries` times, with a reminder of its form.
    """

    def __init__(self, chat: Chat, *, retries: int = 2) -> None:
        self._chat, self.retries = chat, retries

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name

    @property
    def name(self) -> str:
        """Of the model."""
        return self._chat.model

    def rate(self, concept: str, prompts: Sequence[str], completions: Sequence[str]) -> list[Ratings | Failure]:
        """See :class:`CompletionJudge`.

        Raises:
            UsageError, GossamerError: as :meth:`gossamer.chat.Chat.ask`.
            GossamerError: no question of a batch has an answer: the server went away.
        """
        pairs = list(zip(prompts, completions, strict=True))
        questions = [(kind, prompt, text) for prompt, text in pairs for kind in Ratings._fields]
        found: list[float | Failure] = [Failure.UNPARSED] * len(questions)
        for attempt in range(1 + self.retries):
            places = [place for place, rating in enumerate(found) if rating is Failure.UNPARSED]
            answers = self._asked(concept, [questions[place] for place in places], attempt)
            for place, rating in zip(places, answers, strict=True):
                found[place] = rating
        return [_ratings(found[first : first + 3]) for first in range(0, len(found), 3)]

    def _asked(self, concept: str, questions: Sequence[tuple[str, str, str]], attempt: int) -> list[float | Failure]:
        requests = []
        for kind, prompt, text in questions:
            told = {"concept": concept, "prompt": prompt, "completion": text, "again": attempt > 0}
            requests.append(ChatRequest(*_TEMPLATES.messages(kind, **told), _ANSWER_TOKENS, seed=attempt))
        replies = self._chat.ask(requests)
        if replies and all(reply.error for reply in replies):
            raise GossamerError(
                f"judge {self.name}: answers expected, found none to {len(replies)} questions ({replies[0].error}); "
                "what was measured before is kept: see to the server and run it again"
            )
        return [Failure.ERROR if reply.error else read_rating(reply.text) for reply in replies]


def read_rating(text: str) -> float | Failure:
    """The rating that an answer gives: a bare number, JSON with a "rating", or the last number behind "Rating"."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        value = {str(name).casefold(): one for name, one in value.items()}.get("rating")
    if value is None and (named := _RATING.findall(text)):
        value = float(named[-1])
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in (0, 1, 2):
        return Failure.UNPARSED
    return float(value)


def _ratings(found: Sequence[float | Failure]) -> Ratings | Failure:
    """All three, or the failure of one: an error before what is unparsed."""
    failures = [one for one in found if isinstance(one, Failure)]
    if failures:
        return Failure.ERROR if Failure.ERROR in failures else Failure.UNPARSED
    return Ratings(*(float(one) for one in found))


@dataclass(frozen=True)
class JudgedScore:
    """Harmonic means over the completions that were rated.

    Attributes:
        score: mean of those that were; NaN if none was.
        rated, unparsed, error: how many.
    """

    score: float
    rated: int
    unparsed: int
    error: int = 0

    @classmethod
    def of(cls, ratings: Sequence[Ratings | Failure]) -> "JudgedScore":
        """From a judge's answers."""
        scores = [harmonic_mean(one) for one in ratings if not isinstance(one, Failure)]
        mean = sum(scores) / len(scores) if scores else float("nan")
        unparsed, error = (sum(one is kind for one in ratings) for kind in (Failure.UNPARSED, Failure.ERROR))
        return cls(mean, len(scores), unparsed, error)

    @property
    def failures(self) -> float:
        """Share of the completions without ratings."""
        return (self.unparsed + self.error) / max(1, self.rated + self.unparsed + self.error)


def harmonic_mean(ratings: Ratings) -> float:
    """3 / (1/c + 1/i + 1/f); 0 where any is 0.

    Raises:
        UsageError: a rating outside of 0 to 2.
    """
    if not all(0 <= rating <= 2 for rating in ratings):
        raise UsageError(f"ratings: from 0 to 2 expected, found {tuple(ratings)}")
    return 0.0 if 0 in ratings else 3 / sum(1 / rating for rating in ratings)
