"""The numbers that stand together wherever a circuit is compared with another."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.display import plural, short_repr
from gossamer.statistics import Interval


@dataclass(frozen=True)
class CircuitNumbers:
    """A circuit on some held-out prompts.

    Attributes:
        size: its nodes.
        faithfulness, prompt_error, accuracy, kl: as :class:`gossamer.circuits.task_metrics.TaskMetrics` has them.
    """

    size: int
    faithfulness: Interval
    prompt_error: Interval
    accuracy: float
    kl: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.size, "node")
        yield f"faithfulness {self.faithfulness}"
