"""What a judge answered, read without guessing: an answer is right, wrong, unparsed or an error, and never a zero."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gossamer.chat.chat import MOST_FAILURES, Failure
from gossamer.display import short_repr
from gossamer.explain.metrics import auroc, balanced_accuracy, f1
from gossamer.statistics import Interval

Value = TypeVar("Value")
_LIST = re.compile(r"\[[^\[\]]*\]")
_LINE = re.compile(r"^\s*(\d+)\s*[:.)]\s*(\w+)\W*$", re.MULTILINE)
_TRUE, _FALSE = ("1", "yes", "true"), ("0", "no", "false")


@dataclass(frozen=True)
class JudgeAnswer:
    """A judge's answer to one item.

    Attributes:
        prediction: what it said; None where it failed.
        probability: that it would have said yes, where it is known.
        failure: why there is no prediction.
    """

    prediction: bool | None = None
    probability: float | None = None
    failure: Failure | None = None

    __repr__ = short_repr


def parse_booleans(text: str, count: int) -> list[bool] | None:
    """Yes or no for each of `count` items, or None.

    JSON is read first (a list, or an object with one), then a list in brackets somewhere in the text, then lines "n:
    yes". The number of answers must be that of the items shown; of several lists, those that have it must agree.
    """
    return _parsed(text, count, _boolean)


def parse_numbers(text: str, count: int) -> list[float] | None:
    """A number for each of `count` items, or None; see :func:`parse_booleans`."""
    return _parsed(text, count, _number)


def parse_choices(text: str, count: int) -> list[bool] | None:
    """Which of `count` numbered items were named: numbers from 1 between commas, or "none". None if it is neither."""
    plain = text.strip().strip(".").lower()
    if plain == "none":
        return [False] * count
    parts = [part.strip() for part in plain.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= count for part in parts) or len(set(parts)) < len(parts):
        return None
    chosen = {int(part) for part in parts}
    return [number in chosen for number in range(1, count + 1)]


def parse_texts(text: str) -> list[str] | None:
    """A JSON list of texts, alone or with words around it; None where there is none or one of them is empty."""
    start, end = text.find("["), text.rfind("]")
    for candidate in (text, text[start : end + 1]):
        for found in _whole(candidate):
            if found and all(isinstance(one, str) and one.strip() for one in found):
                return found
    return None


def _parsed(text: str, count: int, read: Callable[[Any], Value | None]) -> list[Value] | None:
    for candidates in (_whole(text), _bracketed(text), _lines(text)):
        found = [values for one in candidates if len(values := [read(part) for part in one]) == count]
        complete = [values for values in found if None not in values]
        if complete and all(values == complete[0] for values in complete):
            return [value for value in complete[0] if value is not None]
        if complete:
            return None
    return None


def _whole(text: str) -> list[list[Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return [value] if isinstance(value, list) else []


def _bracketed(text: str) -> list[list[Any]]:
    found = []
    for match in _LIST.findall(text):
        try:
            found.append(json.loads(match))
        except (ValueError, RecursionError):
            continue
    return found


def _lines(text: str) -> list[list[Any]]:
    found = _LINE.findall(text)
    start = int(found[0][0]) if found else 1
    in_order = [int(number) for number, _ in found] == list(range(start, start + len(found)))
    return [[word for _, word in found]] if found and in_order and start in (0, 1) else []


def _boolean(value: Any) -> bool | None:
    text = str(value).strip().lower()
    if isinstance(value, float):
        text = str(int(value)) if value in (0.0, 1.0) else text
    return True if text in _TRUE else False if text in _FALSE else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


@dataclass(frozen=True)
class ItemCounts:
    """How the items of a test ended."""

    right: int = 0
    wrong: int = 0
    unparsed: int = 0
    error: int = 0

    @property
    def total(self) -> int:
        """All items."""
        return self.right + self.wrong + self.unparsed + self.error

    @property
    def failures(self) -> float:
        """Share of the items without an answer."""
        return (self.unparsed + self.error) / self.total if self.total else 0.0


@dataclass(frozen=True)
class ExplanationScore:
    """What one scorer found for one explanation.

    Attributes:
        scorer: its name.
        value: balanced accuracy over the items that were answered, or the scorer's own measure; None where the
            feature is unscored, which `reason` says.
        low, high: its 95 % interval.
        auroc: where there are probabilities.
        beside: other measures of the same answers, by name, such as f1.
        items: how they ended.
        worst, best: the value if all failures were wrong, and if all were right.
        reason: why there is no value.
        outcomes: a letter an item, in the order in which they were shown: of an active one A (said active), a (said
            silent), U (unparsed), E (error); of a silent one S (said silent), s (said active), u, e.
    """

    scorer: str
    value: float | None
    low: float | None = None
    high: float | None = None
    auroc: Interval | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    items: ItemCounts = field(default_factory=ItemCounts)
    worst: float | None = None
    best: float | None = None
    reason: str = ""
    outcomes: str = ""

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        value = "unscored" if self.value is None else f"{self.value:.3f} [{self.low or 0:.3f}, {self.high or 1:.3f}]"
        yield f"{self.scorer} {value}"
        counts = self.items
        yield f"{counts.right} right, {counts.wrong} wrong, {counts.unparsed} unparsed, {counts.error} errors"


def classified(scorer: str, truths: Sequence[bool], answers: Sequence[JudgeAnswer]) -> ExplanationScore:
    """Balanced accuracy over the items that were answered, with the others counted beside it.

    A feature of which more than a fifth of the items failed, or of which one class has no answer, is unscored.
    """
    answered = [(truth, one) for truth, one in zip(truths, answers, strict=True) if one.prediction is not None]
    letters = "".join(_letter(truth, one) for truth, one in zip(truths, answers, strict=True))
    counts = item_counts([truth == one.prediction for truth, one in answered], answers)
    bounds = [_bound(truths, answers, right=right) for right in (False, True)]
    share = 1 - len(answered) / len(answers) if answers else 1.0
    tp, fn, tn, fp = _confusion(answered)
    if share > MOST_FAILURES or not (tp + fn and tn + fp):
        reason = f"{share:.0%} of the items failed" if share > MOST_FAILURES else "no items of one of the two kinds"
        return ExplanationScore(
            scorer, None, worst=bounds[0], best=bounds[1], reason=reason, outcomes=letters, items=counts
        )
    found = balanced_accuracy(tp, fn, tn, fp)
    return ExplanationScore(
        scorer,
        found.value,
        found.low,
        found.high,
        _area(answered),
        {"f1": f1(tp, fn, fp)},
        worst=bounds[0],
        best=bounds[1],
        outcomes=letters,
        items=counts,
    )


def item_counts(right: Sequence[bool], answers: Sequence[JudgeAnswer]) -> ItemCounts:
    """Whether each answer is right, and how many of all items have none."""
    unparsed, error = (sum(one.failure == kind for one in answers) for kind in (Failure.UNPARSED, Failure.ERROR))
    return ItemCounts(sum(right), len(right) - sum(right), unparsed, error)


def _letter(truth: bool, answer: JudgeAnswer) -> str:
    if answer.failure is not None:
        letter = answer.failure.value[0]
        return letter.upper() if truth else letter
    letter = "a" if truth else "s"
    return letter.upper() if answer.prediction == truth else letter


def _confusion(answered: Sequence[tuple[bool, JudgeAnswer]]) -> tuple[int, int, int, int]:
    """True positives, false negatives, true negatives, false positives."""
    cells = [(True, True), (True, False), (False, False), (False, True)]
    tp, fn, tn, fp = (sum((truth, one.prediction) == cell for truth, one in answered) for cell in cells)
    return tp, fn, tn, fp


def _bound(truths: Sequence[bool], answers: Sequence[JudgeAnswer], *, right: bool) -> float | None:
    filled = [
        (truth, one if one.prediction is not None else JudgeAnswer(truth if right else not truth))
        for truth, one in zip(truths, answers, strict=True)
    ]
    tp, fn, tn, fp = _confusion(filled)
    return balanced_accuracy(tp, fn, tn, fp).value if tp + fn and tn + fp else None


def _area(answered: Sequence[tuple[bool, JudgeAnswer]]) -> Interval | None:
    if any(one.probability is None for _, one in answered):
        return None
    kinds = [[one.probability or 0.0 for truth, one in answered if truth == kind] for kind in (True, False)]
    return auroc(kinds[0], kinds[1])
