"""The cells of a sweep in numbers a token or a completion, as report and workbench list them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan

from gossamer.display import short_repr
from gossamer.results import Record
from gossamer.statistics import Interval
from gossamer.steering.judge import JudgedScore
from gossamer.steering.pareto import SweepNumbers, interval_of
from gossamer.steering.sweep import SweepRow

BENEFIT_NAMES = {
    "hit": "share of completions with a word of the concept",
    "words": "words of the concept in a completion",
    "classified": "probability that a completion has the concept",
    "target": "rise of log-probability of text with the concept (nats a token)",
    "judged": "harmonic mean of the judge's three ratings, of those completions that it rated",
}
COST_NAMES = {
    "cross_entropy": "cross-entropy on neutral text (nats a token)",
    "kl": "KL from the model on neutral text (nats a token)",
    "changed": "share of neutral tokens whose likeliest next token changed",
}


@dataclass(frozen=True)
class CellSummary:
    """One cell: how strongly, what it brings, what it costs, what it writes.

    Attributes:
        method, amount: which cell; `amount` is the coefficient with its unit, or the prompt's beginning.
        feature: the feature that is pushed along, "" without one.
        raw, relative_norm: the coefficient as formulas take it, and mean |delta| / mean |x| on neutral text.
        activation: of the feature on neutral text, encoded again; NaN without one.
        hit, words: share of completions with a word of the concept, and words a completion.
        classified: mean probability; None without a classifier.
        cross_entropy, kl, changed: nats a token of neutral text above the unsteered model, and from it; share of
            tokens whose likeliest next one changed.
        log_probability, distinct_2, repeated_4, zlib_ratio: of what is written.
        off_target, moved: other features' mean change, and how many move much; -1 without an observer.
        accuracy: of each task.
        judged: of a judge.
        examples: the first completions.
    """

    method: str
    amount: str
    feature: str
    raw: float
    relative_norm: float
    activation: float
    hit: float
    words: float
    classified: float | None
    cross_entropy: float
    kl: float
    changed: float
    log_probability: float
    distinct_2: float
    repeated_4: float
    zlib_ratio: float
    off_target: float
    moved: int
    accuracy: Mapping[str, float]
    judged: JudgedScore | None
    examples: tuple[str, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.method} {self.amount}".strip()


def cell_summaries(record: Record[SweepRow]) -> list[CellSummary]:
    """A summary of each row of a sweep, in its order."""
    tokens = sum(record.settings["neutral_tokens"])
    return [_summary(row, tokens) for row in record.rows]


def amount(row: SweepRow) -> str:
    """How strongly: the coefficient with its unit, or what is put before the prompts."""
    return repr(row.prefix) if row.prefix else f"{row.value:g} {row.unit}".strip() if row.kind else ""


def _summary(row: SweepRow, tokens: int) -> CellSummary:
    cross_entropy, kl, changed = (float(getattr(row, name).values.sum()) / tokens for name in COST_NAMES)
    return CellSummary(
        method=row.method,
        amount=amount(row),
        feature=row.feature,
        raw=row.raw,
        relative_norm=row.relative_norm,
        activation=row.activation,
        hit=float(row.words.values.clip(max=1).mean()) if len(row.words) else nan,
        words=float(row.words.values.mean()) if len(row.words) else nan,
        classified=float(row.classified.values.mean()) if len(row.classified) else None,
        cross_entropy=cross_entropy,
        kl=kl,
        changed=changed,
        log_probability=row.log_probability,
        distinct_2=row.distinct_2,
        repeated_4=row.repeated_4,
        zlib_ratio=row.zlib_ratio,
        off_target=row.off_target,
        moved=row.moved,
        accuracy=row.accuracy,
        judged=row.judged,
        examples=row.examples,
    )


def cell_intervals(numbers: SweepNumbers, seed: int = 0) -> list[tuple[Interval, Interval]]:
    """Cost and benefit of every cell with 95 % intervals, of the bootstrap that areas come from."""
    costs, benefits = numbers.draws(seed)
    return [
        (interval_of(float(cost), costs[:, cell]), interval_of(float(benefit), benefits[:, cell]))
        for cell, (cost, benefit) in enumerate(zip(*numbers.means, strict=True))
    ]
