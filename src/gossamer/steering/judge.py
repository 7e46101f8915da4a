"""The place of a judge: whatever rates completions fits in here; AxBench's score of three ratings.

A judge behind an OpenAI-compatible server is a client of its own; here is only what a sweep asks of it. An answer that
cannot be read is `None`, and is counted apart: as a zero it would look like a failure of steering.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from gossamer.errors import UsageError


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

    def rate(self, concept: str, prompts: Sequence[str], completions: Sequence[str]) -> Sequence[Ratings | None]:
        """Ratings of each completion of its prompt, in their order; None where an answer could not be read.

        The judge sees neither the method nor the coefficient.
        """


@dataclass(frozen=True)
class JudgedScore:
    """Harmonic means over the completions that were rated.

    Attributes:
        score: mean of those that were; NaN if none was.
        rated, unparsed: how many.
    """

    score: float
    rated: int
    unparsed: int

    @classmethod
    def of(cls, ratings: Sequence[Ratings | None]) -> "JudgedScore":
        """From a judge's answers."""
        scores = [harmonic_mean(one) for one in ratings if one is not None]
        mean = sum(scores) / len(scores) if scores else float("nan")
        return cls(mean, len(scores), len(ratings) - len(scores))


def harmonic_mean(ratings: Ratings) -> float:
    """3 / (1/c + 1/i + 1/f); 0 where any is 0.

    Raises:
        UsageError: a rating outside of 0 to 2.
    """
    if not all(0 <= rating <= 2 for rating in ratings):
        raise UsageError(f"ratings: from 0 to 2 expected, found {tuple(ratings)}")
    return 0.0 if 0 in ratings else 3 / sum(1 / rating for rating in ratings)
