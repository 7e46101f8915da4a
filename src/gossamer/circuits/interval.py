"""A measured value with how far chance could have moved it."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.display import short_repr


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval over held-out prompts."""

    value: float
    low: float
    high: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.value:.3g}, {self.low:.3g} to {self.high:.3g}"
