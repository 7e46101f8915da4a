"""Sparse logistic regression of a feature's activity on the tokens around it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from gossamer.explain.rules import Term, WeightedRule
from gossamer.explain.shapes import FitText

# Candidates of each place, tokens that are sampled, and non-zero weights at most.
_PER_PLACE, _ACTIVE, _SILENT, _WEIGHTS = 12, 2000, 3000, 20
_PENALTIES, _STEPS, _SEED = (0.1, 0.03, 0.01, 0.003, 0.001), 60, 0


@dataclass(frozen=True)
class _Problem:
    """Rows of 0 and 1 with what is to be predicted; weights add up to a half for each kind."""

    x: Float[np.ndarray, "rows terms"]
    active: Bool[np.ndarray, "rows"]
    weights: Float[np.ndarray, "rows"]


def weighted_rule(text: FitText, values: Float[np.ndarray, "tokens"]) -> Iterator[WeightedRule]:
    """Rules of at most 20 tokens at offsets -4 to 0 or anywhere in the text, from the strongest L1 penalty down.

    Proximal gradient steps with momentum (FISTA: Beck & Teboulle 2009) on a sample of the tokens, each penalty begun
    where the one before ended. Active and silent tokens weigh the same; then the bias is where F1 on the whole text is
    best.
    """
    active = values > 0
    if not 0 < active.sum() < len(active):
        return
    terms = _candidates(text, active)
    problem = _sampled(text, active, terms)
    value = float(f"{values[active].mean():.4g}")
    weights, bias = np.zeros(len(terms)), 0.0
    for penalty in _PENALTIES:
        weights, bias = _descend(problem, penalty, weights, bias)
        used = np.flatnonzero(np.abs(weights) > 1e-3)
        if len(used) > _WEIGHTS:
            return
        if len(used):
            chosen = tuple(
                Term(float(f"{weights[one]:.4g}"), text.rows.words[terms[one][1]], terms[one][0]) for one in used
            )
            yield WeightedRule(_best_bias(WeightedRule(0.0, chosen), text, active), chosen, value)


def _best_bias(rule: WeightedRule, text: FitText, active: Bool[np.ndarray, "tokens"]) -> float:
    """The bias at which a weighted sum's F1 is best, in the middle between two sums that occur."""
    sums, group = np.unique(rule.sums(text.rows), return_inverse=True)
    hits = np.bincount(group, weights=active)[::-1].cumsum()
    fired = np.bincount(group)[::-1].cumsum()
    best = int((2 * hits / (fired + hits[-1])).argmax())
    lower = sums[::-1][best + 1] if best + 1 < len(sums) else sums[0] - 1
    return float(f"{-(sums[::-1][best] + lower) / 2:.4g}")


def _candidates(text: FitText, active: Bool[np.ndarray, "tokens"]) -> list[tuple[int | None, int]]:
    """(offset, token) that are most unlike chance; offset None is anywhere in the text."""
    vocabulary, rate = len(text.rows.words), float(active.mean())
    found: list[tuple[int | None, int]] = []
    for offset, ids in text.offsets.items():
        # No token (-1) is counted at a place of its own, and left out.
        hits = np.bincount(ids + 1, weights=active, minlength=vocabulary + 1)[1:]
        size = np.bincount(ids + 1, minlength=vocabulary + 1)[1:]
        found += [(offset, token) for token in _unlikely(hits, size, rate)]
    texts, tokens = text.contents
    per_text = np.bincount(text.text_numbers, weights=active)
    length = np.bincount(text.text_numbers)
    hits = np.bincount(tokens, weights=per_text[texts], minlength=vocabulary)
    size = np.bincount(tokens, weights=length[texts], minlength=vocabulary)
    return [*found, *((None, token) for token in _unlikely(hits, size, rate))]


def _unlikely(hits: Float[np.ndarray, "tokens"], size: Shaped[np.ndarray, "tokens"], rate: float) -> list[int]:
    score = np.abs(hits - rate * size) / np.sqrt(rate * (1 - rate) * size + 1)
    best = np.argsort(-score, kind="stable")[:_PER_PLACE]
    return [int(one) for one in best if size[one]]


def _sampled(text: FitText, active: Bool[np.ndarray, "tokens"], terms: list[tuple[int | None, int]]) -> _Problem:
    draw = np.random.default_rng(_SEED)
    parts, weights = [], []
    for kind, most in ((True, _ACTIVE), (False, _SILENT)):
        places = np.flatnonzero(active == kind)
        chosen = np.sort(draw.choice(places, min(most, len(places)), replace=False))
        parts.append(chosen)
        weights.append(np.full(len(chosen), 0.5 / len(chosen)))
    rows = np.concatenate(parts)
    inside = {token: _texts_with(text, token) for offset, token in terms if offset is None}
    columns = [
        inside[token][text.text_numbers[rows]] if offset is None else text.offsets[offset][rows] == token
        for offset, token in terms
    ]
    return _Problem(np.stack(columns, axis=1).astype(np.float64), active[rows], np.concatenate(weights))


def _texts_with(text: FitText, token: int) -> Bool[np.ndarray, "texts"]:
    texts, tokens = text.contents
    found = np.zeros(len(text.rows.begins), dtype=bool)
    found[texts[tokens == token]] = True
    return found


def _descend(
    problem: _Problem, penalty: float, weights: Float[np.ndarray, "terms"], bias: float
) -> tuple[Float[np.ndarray, "terms"], float]:
    """Minimise the mean log loss with the penalty on the weights' sizes."""
    # The loss's curvature is at most a quarter of the mean square of a row; the bias is one more 1.
    step = 4 / float((problem.weights * (problem.x.sum(axis=1) + 1)).sum())
    point, ahead, size = np.append(weights, bias), np.append(weights, bias), 1.0
    for _ in range(_STEPS):
        odds = 1 / (1 + np.exp(-np.clip(problem.x @ ahead[:-1] + ahead[-1], -50, 50)))
        slope = problem.weights * (odds - problem.active)
        moved = ahead - step * np.append(problem.x.T @ slope, slope.sum())
        shrunk = np.sign(moved[:-1]) * np.maximum(np.abs(moved[:-1]) - step * penalty, 0)
        following, larger = np.append(shrunk, moved[-1]), (1 + np.sqrt(1 + 4 * size**2)) / 2
        ahead = following + (size - 1) / larger * (following - point)
        point, size = following, larger
    return point[:-1], float(point[-1])
