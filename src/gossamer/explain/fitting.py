"""Explanations without a language model: rules fitted on one part of the text, chosen on another by their length.

Candidates are token sets, n-grams, classes, a weighted sum of tokens, and the words that a feature raises. The best is
the one with which the validation text's activity, and the rule itself, take the fewest bits (minimum description
length: Rissanen 1978). Token sets are grown by F1: of sets of groups with given counts, the best one is always a prefix
of the groups by precision.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from gossamer.display import short_repr
from gossamer.explain.corpus import TRAIN, VALIDATION, WindowedCorpus
from gossamer.explain.logistic import weighted_rule
from gossamer.explain.rules import ANY, CLASSES, Clause, Executable, Rule, TokenPattern
from gossamer.explain.shapes import SHAPES, FitText

_PRECISION, _SUPPORT, _SIZES = 0.5, 3, (1, 2, 5, 10, 20, 50)
# Above this F1 on the text that it is fitted on a token set is not looked to be improved on.
_GOOD = 0.98


@dataclass(frozen=True)
class FoundRule:
    """The best of a feature's rules.

    Attributes:
        rule: the rule.
        kind: what it is: "token", "pair", "class", "weighted", "output", with "+" of two of them.
        bits: of the validation text's activity and of the rule.
        null_bits: of the activity without a rule.
        precision, recall: on the validation text.
    """

    rule: Executable
    kind: str
    bits: float
    null_bits: float
    precision: float
    recall: float

    __repr__ = short_repr

    @property
    def saved(self) -> float:
        """Share of the bits that the rule saves; at most 0 where it is not worth its own length."""
        return 1 - self.bits / self.null_bits if self.null_bits else 0.0


class RuleFinder:
    """Finds rules of many features on one corpus, whose tokens are counted once.

    Memory: that of :class:`FitText` for the part of the corpus that rules are fitted on.
    """

    def __init__(self, corpus: WindowedCorpus) -> None:
        self.corpus = corpus
        rows, self._fit_inside = corpus.rows(TRAIN)
        self._fit = FitText(rows)
        self._choose, self._choose_inside = corpus.rows(VALIDATION)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.corpus)

    def find(self, values: Float[np.ndarray, "tokens"], raised: Sequence[str] = ()) -> FoundRule:
        """The rule of a feature, given its activation at every token of the corpus.

        Args:
            values: activations.
            raised: words that it raises by the logit lens, for a rule of what comes next.
        """
        fitted, chosen = values[self._fit_inside], values[self._choose_inside] > 0
        active = fitted > 0
        found: list[FoundRule] = []
        for kind, rule in self._candidates(fitted, active, raised):
            fires = rule.fires(self._choose)
            odds = _odds(rule.fires(self._fit.rows), active)
            bits = _bits(fires, chosen, odds) + rule.bits(len(self._choose.words))
            right = int((fires & chosen).sum())
            null = _bits(np.zeros_like(fires), chosen, _odds(np.zeros_like(active), active))
            precision, recall = right / max(int(fires.sum()), 1), right / max(int(chosen.sum()), 1)
            found.append(FoundRule(rule, kind, bits, null, precision, recall))
        return min(found, key=lambda one: one.bits)

    def _candidates(
        self, values: Float[np.ndarray, "tokens"], active: Bool[np.ndarray, "tokens"], raised: Sequence[str]
    ) -> Iterator[tuple[str, Executable]]:
        yield "nothing", Rule()
        rest = np.ones_like(active)
        for shape in SHAPES:
            for rule in self._of_shape(shape, values, rest):
                yield shape, rule
        sets = list(self._of_shape("token", values, rest, sizes=()))
        best = sets[-1] if sets else Rule()
        fires = best.fires(self._fit.rows)
        if _f1(fires, active) < _GOOD:
            if sets:
                for shape in ("pair", "pair with a gap", "triple", "token after"):
                    for more in self._of_shape(shape, values, ~fires):
                        yield f"token + {shape}", Rule((*best.clauses, *more.clauses))
            for weights in weighted_rule(self._fit, values):
                yield "weighted", weights
        for patterns in self._classes(active):
            yield "class", self._valued([Clause(patterns)], values, rest)
        if words := tuple(TokenPattern("token", word) for word in dict.fromkeys(raised)):
            yield "output", self._valued([Clause(ANY, before=words)], values, rest)

    def _of_shape(
        self,
        shape: str,
        values: Float[np.ndarray, "tokens"],
        rest: Bool[np.ndarray, "tokens"],
        sizes: Sequence[int] = _SIZES,
    ) -> Iterator[Rule]:
        """Rules of the groups on which the feature is mostly active, of several sizes up to the best F1's."""
        groups = self._fit.groups[shape]
        active = (values > 0) & rest
        hits, size = groups.sums(active), groups.sums(rest)
        good = np.flatnonzero((hits >= _SUPPORT) & (hits >= _PRECISION * size) & (groups.keys >= 0).all(axis=1))
        if not len(good):
            return
        order = good[np.lexsort((-hits[good], -hits[good] / size[good]))]
        right, fired = hits[order].cumsum(), size[order].cumsum()
        best = int((2 * right / (fired + active.sum())).argmax()) + 1
        for count in sorted({*(one for one in sizes if one < best), min(best, max(_SIZES))}):
            clauses = _clauses(groups.offsets, [self._words(row) for row in groups.keys[order[:count]]])
            yield self._valued(clauses, values, rest)

    def _words(self, ids: np.ndarray) -> tuple[str, ...]:
        return tuple(self._fit.rows.words[one] for one in ids.tolist())

    def _classes(self, active: Bool[np.ndarray, "tokens"]) -> Iterator[tuple[TokenPattern, ...]]:
        """Classes of tokens on which the feature is mostly active: those of the grammar, and endings."""
        groups = self._fit.groups["token"]
        words = [self._fit.rows.words[one] for one in groups.keys[:, 0].tolist()]
        hits, size = groups.sums(active), groups.sizes
        for name, holds in CLASSES.items():
            which = np.array([holds(word) for word in words])
            if name != "any" and hits[which].sum() >= max(_SUPPORT, _PRECISION * size[which].sum()):
                yield (TokenPattern(name),)
        endings: dict[str, list[int]] = {}
        for number in np.flatnonzero(hits).tolist():
            plain = words[number].strip().lower()
            for length in (2, 3):
                if len(plain) > length and plain[-length:].isalpha():
                    endings.setdefault(plain[-length:], []).append(number)
        for ending, members in sorted(endings.items(), key=lambda one: -hits[one[1]].sum())[:5]:
            pattern = TokenPattern("ends", ending)
            which = np.array([pattern.matches(word) for word in words])
            if len(members) >= _SUPPORT and hits[which].sum() >= _PRECISION * size[which].sum():
                yield (pattern,)

    def _valued(
        self, clauses: Sequence[Clause], values: Float[np.ndarray, "tokens"], rest: Bool[np.ndarray, "tokens"]
    ) -> Rule:
        """The rule of some clauses, each with the mean activation where it is the first that holds."""
        done, left = [], rest.copy()
        for clause in clauses:
            fires = clause.fires(self._fit.rows) & left
            left &= ~fires
            mean = float(values[fires].mean()) if fires.any() else 0.0
            done.append(replace(clause, value=rounded(mean)))
        return Rule(tuple(one for one in done if one.value > 0))


def rounded(value: float) -> float:
    """To the four digits that a rule prints."""
    return float(f"{value:.4g}")


def _clauses(offsets: tuple[int, ...], rows: Sequence[tuple[str, ...]]) -> list[Clause]:
    """Clauses of n-grams: those that differ only at their first offset become one."""
    if len(offsets) == 1:
        several = tuple(TokenPattern("token", row[0]) for row in rows)
        if offsets == (0,):
            return [Clause(several)]
        return [Clause(ANY, before=several) if offsets == (1,) else Clause(ANY, after=(several,))]
    merged: dict[tuple[str, ...], list[TokenPattern]] = {}
    for first, *others in rows:
        merged.setdefault(tuple(others), []).append(TokenPattern("token", first))
    found = []
    for others, firsts in merged.items():
        known = dict(zip(offsets[1:], ((TokenPattern("token", one),) for one in others), strict=True))
        between = tuple(known.get(offset, ANY) for offset in range(offsets[0] + 1, 0))
        found.append(Clause(known[0], (tuple(firsts), *between)))
    return found


def _odds(fires: Bool[np.ndarray, "tokens"], active: Bool[np.ndarray, "tokens"]) -> tuple[float, float]:
    """P(active) where a rule fires and where it does not, by Laplace's rule of succession."""
    found = []
    for where in (fires, ~fires):
        found.append((float((active & where).sum()) + 1) / (float(where.sum()) + 2))
    return found[0], found[1]


def _bits(fires: Bool[np.ndarray, "tokens"], active: Bool[np.ndarray, "tokens"], odds: tuple[float, float]) -> float:
    """Length of a text's activity, given where a rule fires and the odds."""
    total = 0.0
    for where, chance in ((fires, odds[0]), (~fires, odds[1])):
        hits = int((active & where).sum())
        total -= hits * math.log2(chance) + (int(where.sum()) - hits) * math.log2(1 - chance)
    return total


def _f1(fires: Bool[np.ndarray, "tokens"], active: Bool[np.ndarray, "tokens"]) -> float:
    both = int(fires.sum()) + int(active.sum())
    return 2 * int((fires & active).sum()) / both if both else 0.0
