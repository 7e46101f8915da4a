"""Sparse logistic regression of a feature's activity on the tokens around it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from gossamer.explain.rules import Term, WeightedRule
from gossamer.explain.shapes import FitText

# Candidates of each place, tokens that are sampled, and non-zero weights at most.
_PER_PLACE, _ACTIVE, _SILENT, _WEIGHTS = 12, 2000, 3000, 20
_PENALTIES, _STEPS, _SEED = (0.1, 0.03, 0.01, 0.003, 0.001), 60, 0


@dataclass(frozen=True)
class _Problem:
    """Rows of 0 and 1 with what is to be predicted; weights undo the sampling and add up to 1."""

    x: Float[np.ndarray, "rows terms"]
    active: Bool[np.ndarray, "rows"]
    weights: Float[np.ndarray, "rows"]


def weighted_rule(text: FitText, values: Float[np.ndarray, "tokens"]) -> Iterator[WeightedRule]:
    """Rules of at most 20 tokens at offsets -4 to 0 or anywhere in the text, from the strongest L1 penalty down.

    Proximal gradient steps with momentum (FISTA: Beck & Teboulle 2009) on a sample of the tokens, each penalty begun
    where the one before ended.
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
            yield WeightedRule(float(f"{bias:.4g}"), chosen, value)


def _candidates(text: FitText, active: Bool[np.ndarray, "tokens"]) -> list[tuple[int | None, int]]:
    """(offset, token) that are most unlike chance; offset None is anywhere in the text."""
    vocabulary, rate = len(text.rows.words), active.mean()
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


def _unlikely(hits: Float[np.ndarray, "tokens"], size: Float[np.ndarray, "tokens"], rate: float) -> list[int]:
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
        weights.append(np.full(len(chosen), len(places) / len(chosen) / len(active)))
    rows = np.concatenate(parts)
    inside = {token: _texts_with(text, token) for offset, token in terms if offset is None}
    columns = [
        inside[token][text.text_numbers[rows]] if offset is None else text.offsets[offset][rows] == token
        for offset, token in terms
    ]
    return _Problem(np.stack(columns, axis=1).astype(np.float64), active[rows], np.concatenate(weights))


def _texts_with(text: FitText, token: int) -> Bool[np.ndarray, "texts"]:
    texts, tokens = text.contents
    found: Int[np.ndarray, texts] = np.zeros(len(text.rows.begins), dtype=bool)
    found[texts[tokens == token]] = True
    return found


def _descend(
    problem: _Problem, penalty: float, weights: Float[np.ndarray, "terms"], bias: float
) -> tuple[Float[np.ndarray, "terms"], float]:
    """Minimise the mean log loss with the penalty, relative to the entropy's scale, on the weights' sizes."""
    rate = float(problem.weights[problem.active].sum())
    scale = rate * (1 - rate)
    # The loss's curvature is at most a quarter of the mean square of a row; the bias is one more 1.
    step = 4 / float((problem.weights * (problem.x.sum(axis=1) + 1)).sum())
    point, ahead, size = np.append(weights, bias), np.append(weights, bias), 1.0
    for _ in range(_STEPS):
        odds = 1 / (1 + np.exp(-np.clip(problem.x @ ahead[:-1] + ahead[-1], -50, 50)))
        slope = problem.weights * (odds - problem.active)
        moved = ahead - step * np.append(problem.x.T @ slope, slope.sum())
        shrunk = np.sign(moved[:-1]) * np.maximum(np.abs(moved[:-1]) - step * penalty * scale, 0)
        following, larger = np.append(shrunk, moved[-1]), (1 + np.sqrt(1 + 4 * size**2)) / 2
        ahead = following + (size - 1) / larger * (following - point)
        point, size = following, larger
    return point[:-1], float(point[-1])
