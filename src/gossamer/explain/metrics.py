"""Numbers that scores are made of, each by its published formula."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gossamer import statistics
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.statistics import Interval

LEVELS = 10


def wilson(right: int, count: int) -> Interval:
    """A share with Wilson's interval (Wilson 1927), which is no point at 0 and 1."""
    if not 0 <= right <= count or not count:
        raise UsageError(f"share: 0 <= right <= count and count >= 1 expected, found {right} of {count}")
    low, high = statistics.wilson(right, count)
    return Interval(right / count, float(low), float(high))


def balanced_accuracy(tp: int, fn: int, tn: int, fp: int) -> Interval:
    """Mean of the two classes' accuracies; its interval joins their Wilson intervals (Zou & Donner 2008, MOVER)."""
    one, other = wilson(tp, tp + fn), wilson(tn, tn + fp)
    value = (one.value + other.value) / 2
    low = value - math.hypot(one.value - one.low, other.value - other.low) / 2
    high = value + math.hypot(one.high - one.value, other.high - other.value) / 2
    return Interval(value, max(0.0, low), min(1.0, high))


def f1(tp: int, fn: int, fp: int) -> float:
    """Harmonic mean of precision and recall; 0 where nothing is right."""
    return 2 * tp / (2 * tp + fn + fp) if tp else 0.0


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> Interval:
    """How often a positive's score is above a negative's, ties counting half; Newcombe's interval (2006, method 5).

    Raises:
        UsageError: one of the two is empty.
    """
    if not len(positives) or not len(negatives):
        raise UsageError(f"AUROC: both kinds expected, found {len(positives)} positives, {len(negatives)} negatives")
    return statistics.newcombe(statistics.auroc(positives, negatives), len(positives), len(negatives))


def gini(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """2 AUROC - 1, with its sign: FADE's own is the size of it, which cannot tell a description from its opposite."""
    return 2 * auroc(positives, negatives).value - 1


def average_precision(scores: Sequence[float], truths: Sequence[bool]) -> float:
    """Sum of precision times the gain in recall, over thresholds; equal scores are one threshold.

    Raises:
        UsageError: nothing is true.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ranked, hits = np.asarray(scores, dtype=np.float64)[order], np.asarray(truths, dtype=bool)[order]
    if not hits.any():
        raise UsageError("average precision: something true expected, found nothing")
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    right = hits.cumsum()[ends]
    gains = np.diff(right, prepend=0) / hits.sum()
    return float((gains * right / (ends + 1)).sum())


def floor_level(value: float, maximum: float) -> int:
    """An activation as a whole number from 0 to 10, rounded down (Bills et al. 2023)."""
    return min(LEVELS, math.floor(LEVELS * max(value, 0.0) / maximum)) if maximum > 0 else 0


def ceil_level(value: float, maximum: float) -> int:
    """The same rounded up (delphi): what is active at all is at least 1."""
    return min(LEVELS, math.ceil(LEVELS * max(value, 0.0) / maximum)) if maximum > 0 else 0


def expected_level(logprobs: Mapping[str, float]) -> float | None:
    """Mean of the numbers 0 to 10 under the log-probabilities of next tokens; None where none of them is a number.

    Other tokens are left out and the rest is renormalised (Bills et al. 2023).
    """
    numbers = {str(level): level for level in range(LEVELS + 1)}
    chances: dict[int, float] = {}
    for token, logprob in logprobs.items():
        if (level := numbers.get(token.strip())) is not None:
            chances[level] = chances.get(level, 0.0) + math.exp(logprob)
    total = sum(chances.values())
    return sum(level * chance for level, chance in chances.items()) / total if total > 0 else None


@dataclass(frozen=True)
class Simulation:
    """How well activations were predicted, over the tokens of all texts together.

    Attributes:
        correlation: Pearson's; None where either is constant.
        slope, intercept: of the regression of activations on predictions.
        explained: 1 - mean((T - S)^2) / mean(T^2) after that regression (Bills et al.: no mean is removed).
        absolute: 1 - mean|T - S| / mean|T| after it.
        r_squared: the conventional one, the square of the correlation.
    """

    correlation: float | None
    slope: float
    intercept: float
    explained: float
    absolute: float
    r_squared: float

    __repr__ = short_repr


def simulation(
    true: Sequence[Sequence[float]],
    predicted: Sequence[Sequence[float]],
    calibration: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]] | None = None,
) -> Simulation:
    """ExplanationScore predictions of activations: texts are joined before anything is measured.

    Args:
        true, predicted: a number a token, text by text.
        calibration: other texts' activations and predictions, that the regression is fitted on; default: these.

    Raises:
        UsageError: not as many predictions as activations, or no activity.
    """
    t, s = _joined(true, predicted)
    fit_t, fit_s = (t, s) if calibration is None else _joined(*calibration)
    if not t.any():
        raise UsageError("simulation: a feature that is active expected, found none active")
    slope, intercept = _regression(fit_t, fit_s)
    calibrated = slope * s + intercept
    correlation = _correlation(t, s)
    return Simulation(
        correlation,
        slope,
        intercept,
        1 - float(np.mean((t - calibrated) ** 2) / np.mean(t**2)),
        1 - float(np.abs(t - calibrated).mean() / np.abs(t).mean()),
        0.0 if correlation is None else correlation**2,
    )


def correlation_over_texts(true: Sequence[Sequence[float]], predicted: Sequence[Sequence[float]]) -> Interval | None:
    """Pearson's correlation over all tokens joined, its interval over texts: tokens of one text depend on each other.

    The jackknife leaves one text out at a time, on the scale of the inverse hyperbolic tangent, with Student's quantile
    (Tukey 1958). Fisher's interval is for normal variables, and activations are mostly zero. Ends are -1 and 1 where
    there is one text alone, or no variation without one of them; None where there is no correlation.
    """
    found = simulation(true, predicted).correlation
    if found is None:
        return None
    places = range(len(true))
    without = [
        _correlation(
            *_joined([true[one] for one in places if one != out], [predicted[one] for one in places if one != out])
        )
        for out in (places if len(true) > 1 else ())
    ]
    scaled = [_scaled(one) for one in without if one is not None]
    if len(scaled) < len(true):
        return Interval(found, -1.0, 1.0)
    # Of the mean of values with this spread, one a text: the jackknife's pseudo-values.
    half = statistics.student_half([(len(scaled) - 1) * one for one in scaled]) or math.inf
    return Interval(found, math.tanh(_scaled(found) - half), math.tanh(_scaled(found) + half))


def _correlation(t: Float[np.ndarray, "n"], s: Float[np.ndarray, "n"]) -> float | None:
    return None if t.std() == 0 or s.std() == 0 else float(np.corrcoef(t, s)[0, 1])


def _scaled(correlation: float) -> float:
    return math.atanh(min(max(correlation, -1 + 1e-12), 1 - 1e-12))


def _joined(true: Sequence[Sequence[float]], predicted: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = [len(one) for one in true], [len(one) for one in predicted]
    if lengths[0] != lengths[1] or not sum(lengths[0]):
        raise UsageError(f"simulation: as many predictions as activations expected, found {lengths[1]} of {lengths[0]}")
    t, s = (np.concatenate([np.asarray(one, dtype=np.float64) for one in several]) for several in (true, predicted))
    return t, s


def _regression(t: Float[np.ndarray, "n"], s: Float[np.ndarray, "n"]) -> tuple[float, float]:
    variance = float(s.var())
    slope = float(((s - s.mean()) * (t - t.mean())).mean()) / variance if variance else 0.0
    return slope, float(t.mean() - slope * s.mean())


def faithfulness(unsteered: float, steered: Sequence[float]) -> float:
    """FADE's: by how much steering raises the share of texts with the concept, of what it could: 0 to 1.

    Args:
        unsteered: share of continuations with the concept.
        steered: the same at each strength.

    Raises:
        UsageError: all texts have it already, so that nothing could be raised.
    """
    if not steered or not 0 <= unsteered < 1:
        raise UsageError(
            f"faithfulness: some strengths and a share below 1 without steering expected, found {len(steered)} "
            f"strengths and {unsteered}; take texts without the concept"
        )
    return max(max(steered) - unsteered, 0.0) / (1 - unsteered)


def mean_over_features(values: Sequence[float], seed: int = 0, draws: int = 1000) -> Interval | None:
    """The mean with a bootstrap interval over features; None of no values."""
    if not values:
        return None
    found = np.asarray(values, dtype=np.float64)
    chosen = np.random.default_rng(seed).integers(0, len(found), (draws, len(found)))
    low, high = np.quantile(found[chosen].mean(axis=1), [0.025, 0.975])
    return Interval(float(found.mean()), float(low), float(high))
