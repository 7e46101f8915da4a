"""How one network does a task on held-out prompts, in numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gossamer.circuits.circuit_numbers import CircuitNumbers
from gossamer.display import html_table, short_repr
from gossamer.statistics import Interval

# Marks a circuit whose faithfulness exceeds the dictionaries' own.
BEYOND = "†"


def circuit_mark(faithfulness: float, dictionaries: float) -> str:
    """What stands beside the faithfulness of a circuit: BEYOND if it exceeds what its dictionaries keep.

    What such a circuit has beyond them comes from ablation, not from what its nodes say.
    """
    return BEYOND if faithfulness > dictionaries else ""


@dataclass(frozen=True)
class TaskMetrics:
    """How one network (full, with dictionaries, circuit, ...) does the task on held-out prompts.

    Attributes:
        name: what the network is.
        metric: mean of what the task measures (`Findings.metric` names it).
        faithfulness: a difference over the full model's, with nothing subtracted; of a distance from the full model,
            1 minus its share of the empty circuit's distance (see :mod:`gossamer.tasks.metric`).
        faithfulness_to_dictionaries: the same with model + dictionaries without ablation in the full model's place.
        accuracy: share of prompts that it gets right (see :class:`gossamer.circuits.prompt_metrics.PromptMetrics`).
        top1: share of prompts where a right answer's logit exceeds every other token's.
        kl: mean KL(full model || this network) over the vocabulary at the answer position, in nats.
        prompt_error: mean over prompts of |metric - the full model's|, in units of faithfulness.
        answer_kl: mean KL as above between the prompt's own answers alone, right and wrong.
    """

    name: str
    metric: Interval
    faithfulness: Interval
    faithfulness_to_dictionaries: Interval
    accuracy: float
    top1: float
    kl: float
    prompt_error: Interval
    answer_kl: float = math.nan

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name
        yield f"metric {self.metric.value:.3g}"
        share = self.faithfulness
        yield f"faithfulness {share.value:.3g} ({share.low:.3g} to {share.high:.3g})"
        yield f"accuracy {self.accuracy:.3g}"
        yield f"KL {self.kl:.3g}"

    @property
    def measured(self) -> dict[str, float]:
        """The numbers that a circuit's file holds."""
        return {
            "faithfulness": self.faithfulness.value,
            "faithfulness_to_dictionaries": self.faithfulness_to_dictionaries.value,
            "accuracy": self.accuracy,
            "kl": self.kl,
        }

    def of_size(self, size: int) -> CircuitNumbers:
        """What stands beside other circuits' numbers."""
        return CircuitNumbers(size, self.faithfulness, self.prompt_error, self.accuracy, self.kl)

    @property
    def exceeds_dictionaries(self) -> bool:
        """Whether it is more faithful than all dictionaries without ablation, of whose latents a circuit is a part."""
        return bool(self.mark)

    @property
    def mark(self) -> str:
        """What stands beside its faithfulness if it is a circuit (of a budget or kinds of prompts see below)."""
        share, of_dictionaries = self.faithfulness.value, self.faithfulness_to_dictionaries.value
        return circuit_mark(share, share / of_dictionaries if of_dictionaries else math.nan)


# The name under which a circuit's file holds what its dictionaries keep of the task, with all of their latents.
DICTIONARIES = "dictionaries_faithfulness"


def measured_of(budget: Sequence[TaskMetrics]) -> dict[str, float]:
    """The numbers that a circuit's file holds, of rows that end in all dictionaries, the circuit and the empty one."""
    return {**budget[-2].measured, DICTIONARIES: budget[-3].faithfulness.value}


def budget_marks(budget: Sequence[TaskMetrics]) -> list[str]:
    """What stands beside the faithfulness of each row; the rows end in a circuit and the empty one.

    No other row is marked: the full model and a dictionary alone are no circuits of all dictionaries' latents.
    """
    return [row.mark if place >= len(budget) - 2 else "" for place, row in enumerate(budget)]


def case_marks(circuit: TaskMetrics) -> tuple[str, str]:
    """What stands beside the full model's faithfulness on prompts of one kind, and beside the circuit's."""
    return "", circuit.mark


def behaviours_html(metrics: Sequence[TaskMetrics], caption: str) -> str:
    """Networks that do a task, one a row."""
    head = ("network", "metric", "faithfulness", "95 % interval", "per-prompt error", "accuracy", "KL")
    rows = [
        (
            one.name,
            one.metric.value,
            f"{one.faithfulness.value:.4g}{mark}" if mark else one.faithfulness.value,
            f"{one.faithfulness.low:.3g} to {one.faithfulness.high:.3g}",
            one.prompt_error.value,
            one.accuracy,
            one.kl,
        )
        for one, mark in zip(metrics, budget_marks(metrics), strict=True)
    ]
    return html_table(head, rows, caption)
