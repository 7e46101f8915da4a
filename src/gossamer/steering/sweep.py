"""A sweep: every method at every coefficient, what it brings and what it costs, in a record that can be resumed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.chat.chat import MOST_FAILURES, Ability, Failure
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import error_context
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import predicting
from gossamer.progress import begin, silenced
from gossamer.results import Record, Recorder, record_format, versions
from gossamer.results.column import Column
from gossamer.seeding import generator
from gossamer.steering.benefit import ConceptClassifier, WordList
from gossamer.steering.cell import Cell
from gossamer.steering.completions import Completions, SamplingPlan, complete
from gossamer.steering.gold import JudgeGold, judge_gold
from gossamer.steering.judge import CompletionJudge, JudgedScore, Ratings, harmonic_mean
from gossamer.steering.pareto import UNSTEERED, MethodCurve, SweepNumbers, curves
from gossamer.steering.predictions import Observer, PredictionChanges, accuracies, prediction_changes
from gossamer.steering.vector_notes import VectorNotes
from gossamer.tasks.task import Task
from gossamer.tokens import Tokens

RESULTS = "sweep.json"
BENEFITS = ("hit", "words", "classified", "target", "judged")
COSTS = ("cross_entropy", "kl", "changed")
_SHOWN = 3
# Of a record's provenance: what its judge is worth.
_GOLD = "judge_gold"
_NONE = Column.of([], "float32")


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep measures.

    Attributes:
        prompts: texts that are continued, half of which choose coefficients and half of which report.
        words: of the concept: what counts as a hit.
        neutral: text without the concept, for the cost; rows padded on the right.
        sampling: what is written.
        target: text with the concept, whose log-probability is a benefit without any sampling; None: not measured.
        classifier: of the concept, which has not seen its words; None: not asked.
        observer: which other features move; None: not measured.
        tasks: whose accuracy is a cost too, by name.
        judge: rates completions; None: nobody does.
        rows_at_once: rows of a batch: memory grows with it, and speed up to some thousands.
    """

    prompts: Sequence[str]
    words: WordList
    neutral: Tokens
    sampling: SamplingPlan = SamplingPlan()
    target: Tokens | None = None
    classifier: ConceptClassifier | None = None
    observer: Observer | None = None
    tasks: Mapping[str, Task] | None = None
    judge: CompletionJudge | None = None
    rows_at_once: int = 1024

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.prompts), 'prompt')} x {plural(self.sampling.samples, 'sample')}"
        yield f"{plural(int(predicting(self.neutral).sum()), 'neutral token')}"


@dataclass(frozen=True)
class SweepRow:
    """One cell: what was done, what it brought and what it cost.

    Attributes:
        method, kind, site, feature, prefix: of the cell; kind is "" for the unsteered model and for prompts.
        value, unit, raw: coefficient; relative_norm: mean |delta| / mean |x| on neutral text, the axis on which methods
            can be compared.
        activation: of the feature on neutral text, encoded again after steering; NaN without one.
        words: how many of the concept's words are in each completion; rows are prompts, and of each its samples.
        classified: probability that each completion has the concept; empty without a classifier.
        target: rise of the log-probability of each row of target text, a sum over its tokens; empty without one.
        cross_entropy, kl, changed: of each row of neutral text, sums over its tokens (:class:`PredictionChanges`).
        log_probability, distinct_2, repeated_4, zlib_ratio: of the completions (:class:`Completions`).
        off_target, moved: of the observer's features (:class:`PredictionChanges`).
        accuracy: of each task.
        judged: harmonic means of a judge's ratings, with how many could not be read.
        examples: the first completions.
        rated_concept, rated_instruction, rated_fluency: a judge's ratings of each completion, NaN where there is none;
            empty without a judge.
    """

    method: str
    kind: str
    site: str
    feature: str
    prefix: str
    value: float
    unit: str
    raw: float
    relative_norm: float
    activation: float
    words: Column
    classified: Column
    target: Column
    cross_entropy: Column
    kl: Column
    changed: Column
    log_probability: float
    distinct_2: float
    repeated_4: float
    zlib_ratio: float
    off_target: float
    moved: int
    accuracy: Mapping[str, float]
    judged: JudgedScore | None
    examples: tuple[str, ...]
    rated_concept: Column = _NONE
    rated_instruction: Column = _NONE
    rated_fluency: Column = _NONE

    __repr__ = short_repr

    @property
    def ratings(self) -> list[Ratings | None]:
        """Of each completion, None where it has none."""
        columns = (getattr(self, f"rated_{name}").tolist() for name in Ratings._fields)
        return [None if isnan(sum(one)) else Ratings(*one) for one in zip(*columns, strict=True)]

    def _facts(self) -> Iterator[str]:
        yield f"{self.method} {self.value:g} {self.unit}".strip()
        yield f"{(self.words.values > 0).mean():.1%} of {plural(len(self.words), 'completion')} hit"


FORMAT = record_format("gossamer.steering", 1, SweepRow, "a steering sweep")


def sweep(
    model: LanguageModel,
    cells: Sequence[Cell],
    plan: SweepPlan,
    folder: str | Path | None = None,
    *,
    notes: VectorNotes | None = None,
) -> Record[SweepRow]:
    """Measure every cell, as many of them in a batch as `rows_at_once` rows hold.

    With a `folder`, sweep.json there is written after each batch; a sweep that was stopped goes on behind the last.

    Args:
        notes: of the vectors, which the record keeps (:func:`gossamer.steering.vector_notes.notes_of`).

    Raises:
        UsageError: not one unsteered cell, fewer than 2 prompts or rows of neutral text, neutral text with the
            concept's words, or a folder that holds another sweep.
        NotFiniteError: a coefficient makes values that are not finite; what was measured before stays.
        GossamerError: sweep.json is damaged.
    """
    _check(model, cells, plan)
    path = None if folder is None else Path(folder) / RESULTS
    known = (notes or VectorNotes()).provenance()
    recorder = Recorder(
        path, FORMAT, _settings(model, cells, plan), {"versions": versions(), "model": model.name, **known}
    )
    if plan.judge is not None and _GOLD not in recorder.provenance:
        target = () if plan.target is None else model.decode(plan.target)
        gold = judge_gold(plan.judge, plan.words, target, model.decode(plan.neutral))
        recorder.provenance[_GOLD] = None if gold is None else gold.to_json()
    size = max(1, plan.rows_at_once // (len(plan.prompts) * plan.sampling.samples))
    advance = begin("steering", len(cells))
    advance(len(recorder.rows), "")
    for first in range(len(recorder.rows), len(cells), size):
        part = cells[first : first + size]
        said = f"steering by {listed(dict.fromkeys(cell.method for cell in part))} (take smaller coefficients)"
        with silenced(), torch.no_grad(), error_context(said):
            recorder.add(*_rows(model, part, plan))
        advance(len(part), part[-1].method)
    return recorder.record


def load_sweep(folder: str | Path) -> Record[SweepRow]:
    """The sweep in a folder, complete or not.

    Raises:
        UsageError: there is none.
        GossamerError: it is damaged.
    """
    return FORMAT.load(Path(folder) / RESULTS)


def gold_of(record: Record[SweepRow]) -> JudgeGold | None:
    """What the judge of a sweep makes of texts whose answer is known; None where it was not asked."""
    found = record.provenance.get(_GOLD)
    return None if found is None else JudgeGold.from_json(found)


def measured_benefits(record: Record[SweepRow]) -> list[str]:
    """Those of `BENEFITS` that a sweep has.

    A judge that failed at more than a fifth of a cell's completions, or that is at chance on texts whose answer is
    known or did not answer what is asked of them, ranks nothing.
    """
    columns = {"hit": "words", "judged": "rated_concept"}
    found = [name for name in BENEFITS if all(len(getattr(row, columns.get(name, name))) for row in record.rows)]
    failing = any(row.judged is not None and row.judged.failures > MOST_FAILURES for row in record.rows)
    gold = gold_of(record)
    ranks = not failing and (gold is None or gold.ability is Ability.ABLE)
    return [name for name in found if name != "judged" or ranks]


def numbers(record: Record[SweepRow], benefit: str = "hit", cost: str = "cross_entropy") -> SweepNumbers:
    """Benefit and cost of every cell.

    Args:
        benefit: "hit", the share of completions with a word of the concept; "words", how many; "classified", the
            classifier's probability; "target", the rise of log-probability a token; "judged", the harmonic mean of a
            judge's ratings, over the completions that have any.
        cost: "cross_entropy", "kl" or "changed".

    Raises:
        UsageError: another name, or one that was not measured.
    """
    if benefit not in BENEFITS or cost not in COSTS:
        raise UsageError(f"sweep: a benefit of {', '.join(BENEFITS)} and a cost of {', '.join(COSTS)} expected")
    shape = (len(record.settings["prompts"]), record.settings["sampling"]["samples"])
    if benefit == "target":
        tokens = torch.tensor(record.settings["target_tokens"] or [1], dtype=torch.float64)
        shape = (len(tokens), 1)
    found = []
    for row in record.rows:
        if benefit == "judged":
            column = [nan if one is None else harmonic_mean(one) for one in row.ratings]
        else:
            column = (row.words if benefit == "hit" else getattr(row, benefit)).tolist()
        if not column:
            raise UsageError(f"sweep: {benefit!r} was not measured; give the sweep what it needs")
        values = torch.tensor(column, dtype=torch.float64)
        values = (values > 0).double() if benefit == "hit" else values
        found.append((values / tokens if benefit == "target" else values).reshape(shape))
    costs = torch.stack([torch.tensor(getattr(row, cost).tolist(), dtype=torch.float64) for row in record.rows])
    methods = tuple(row.method for row in record.rows)
    return SweepNumbers(methods, torch.stack(found), costs, torch.tensor(record.settings["neutral_tokens"]))


def sweep_curves(
    record: Record[SweepRow],
    reference: str,
    *,
    benefit: str = "hit",
    cost: str = "cross_entropy",
    limit: float = 1.0,
    seed: int = 0,
) -> list[MethodCurve]:
    """The curve of every method of a sweep, with areas, intervals and coefficients; see :func:`curves`."""
    return curves(numbers(record, benefit, cost), reference, limit=limit, seed=seed)


def _check(model: LanguageModel, cells: Sequence[Cell], plan: SweepPlan) -> None:
    unsteered = [cell for cell in cells if cell.method == UNSTEERED]
    if len(unsteered) != 1 or unsteered[0].interventions or unsteered[0].prefix:
        raise UsageError(f"sweep: one cell {UNSTEERED!r} with nothing done expected, found {len(unsteered)}")
    if len(plan.prompts) < 2 or len(plan.neutral) < 2:
        raise UsageError(
            f"sweep: at least 2 prompts and 2 rows of neutral text expected, found {len(plan.prompts)} and "
            f"{len(plan.neutral)}"
        )
    meant = [row for row, text in enumerate(model.decode(plan.neutral)) if plan.words.count(text)]
    if meant:
        raise UsageError(f"sweep: neutral text without the concept's words expected, found one in row {meant[0]}")


def _settings(model: LanguageModel, cells: Sequence[Cell], plan: SweepPlan) -> dict[str, Any]:
    sampling = plan.sampling
    return {
        "model": model.title,
        "weights_sha256": weights_sha256(model.hf),
        "cells": [_described(cell) for cell in cells],
        "prompts": list(plan.prompts),
        "words": list(plan.words.words),
        "sampling": {name: getattr(sampling, name) for name in SamplingPlan.__dataclass_fields__},
        "neutral": _hash(plan.neutral.ids * plan.neutral.mask, plan.neutral.mask),
        "neutral_tokens": predicting(plan.neutral).sum(dim=1).tolist(),
        "target": None if plan.target is None else _hash(plan.target.ids * plan.target.mask),
        "target_tokens": None if plan.target is None else predicting(plan.target).sum(dim=1).tolist(),
        "classifier": None if plan.classifier is None else _hash(plan.classifier.weights),
        "observer": None if plan.observer is None else str(plan.observer.site),
        "tasks": sorted(plan.tasks or ()),
        "judge": None if plan.judge is None else plan.judge.name,
        "rows_at_once": plan.rows_at_once,
    }


def _described(cell: Cell) -> dict[str, Any]:
    done = [
        {
            "kind": one.kind,
            "site": str(one.site),
            "vector": _hash(one.vector),
            "latent": one.latent,
            "coefficient": [one.coefficient.value, one.coefficient.unit, one.coefficient.scale],
            "positions": [one.positions.start, one.positions.stop, one.positions.after_prompt],
            "gate": None if one.gate is None else [str(one.gate.site), one.gate.threshold],
        }
        for one in cell.interventions
    ]
    return {"method": cell.method, "prefix": cell.prefix, "interventions": done}


def _hash(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _rows(model: LanguageModel, cells: Sequence[Cell], plan: SweepPlan) -> list[SweepRow]:
    at_once = max(8, plan.rows_at_once // 4)
    costs = prediction_changes(model, cells, plan.neutral, observer=plan.observer, rows_at_once=at_once)
    gains = None if plan.target is None else prediction_changes(model, cells, plan.target, rows_at_once=at_once)
    written = complete(model, cells, plan.prompts, plan.sampling, rows_at_once=plan.rows_at_once)
    accuracy = {name: accuracies(model, cells, task, at_once) for name, task in (plan.tasks or {}).items()}
    ratings = None if plan.judge is None else _rated(plan.judge, plan, written)
    return [
        _row(
            cell,
            place,
            plan,
            costs,
            gains,
            written[place],
            {name: one[place] for name, one in accuracy.items()},
            None if ratings is None else ratings[place],
        )
        for place, cell in enumerate(cells)
    ]


def _rated(judge: CompletionJudge, plan: SweepPlan, written: Sequence[Completions]) -> list[list[Ratings | Failure]]:
    """Ratings of each cell's completions, which are shown all together in an order that says nothing of cells."""
    prompts = [prompt for _ in written for prompt in plan.prompts for _ in range(plan.sampling.samples)]
    texts = [text for one in written for text in one.texts]
    order = torch.randperm(len(texts), generator=generator(plan.sampling.seed, "steering judge")).tolist()
    answers = judge.rate(", ".join(plan.words.words), [prompts[one] for one in order], [texts[one] for one in order])
    ratings: list[Ratings | Failure] = [Failure.UNPARSED] * len(texts)
    for place, answer in zip(order, answers, strict=True):
        ratings[place] = answer
    size = len(texts) // len(written)
    return [ratings[start : start + size] for start in range(0, len(texts), size)]


def _row(
    cell: Cell,
    place: int,
    plan: SweepPlan,
    costs: PredictionChanges,
    gains: PredictionChanges | None,
    written: Completions,
    accuracy: Mapping[str, float],
    ratings: Sequence[Ratings | Failure] | None,
) -> SweepRow:
    first, amount = (cell.interventions[0] if cell.interventions else None), cell.coefficient
    texts = written.texts
    rated = [[nan] * 3 if isinstance(one, Failure) else list(one) for one in ratings or ()]
    return SweepRow(
        method=cell.method,
        kind="" if first is None else first.kind,
        site="" if first is None else str(first.site),
        feature="" if first is None or first.feature is None else str(first.feature),
        prefix=cell.prefix,
        value=0.0 if amount is None else amount.value,
        unit="" if amount is None else amount.unit,
        raw=0.0 if amount is None else amount.raw,
        relative_norm=float(costs.relative_norm[place]),
        activation=float(costs.activation[place]),
        words=Column.of([plan.words.count(text) for text in texts], "uint16"),
        classified=Column.of([] if plan.classifier is None else plan.classifier.probabilities(texts), "float32"),
        target=Column.of([] if gains is None else -gains.cross_entropy[place], "float32"),
        **{name: Column.of(getattr(costs, name)[place], "float32") for name in COSTS},
        log_probability=float(written.log_probability.mean()),
        distinct_2=written.distinct_2,
        repeated_4=written.repeated_4,
        zlib_ratio=written.zlib_ratio,
        off_target=float(costs.off_target[place]),
        moved=int(costs.moved[place]),
        accuracy=accuracy,
        judged=None if ratings is None else JudgedScore.of(ratings),
        examples=tuple(texts[:_SHOWN]),
        **{
            f"rated_{name}": Column.of([one[place] for one in rated], "float32")
            for place, name in enumerate(Ratings._fields)
        },
    )
