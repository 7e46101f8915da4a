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


@dataclass(frozen=True)
class _Candidate:
    """A rule with how often it fires on the text that it is fitted on, and how often rightly."""

    kind: str
    rule: Executable
    right: int
    fired: int

    def beside(self, more: "_Candidate") -> "_Candidate":
        """Both together, of which the other fires where this one does not."""
        assert isinstance(self.rule, Rule)
        assert isinstance(more.rule, Rule)
        rule = Rule((*self.rule.clauses, *more.rule.clauses))
        return _Candidate(f"{self.kind} + {more.kind}", rule, self.right + more.right, self.fired + more.fired)


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
        active, tokens = int((fitted > 0).sum()), len(fitted)
        null = _bits(np.zeros_like(chosen), chosen, _odds(0, 0, active, tokens))
        found: list[FoundRule] = []
        for one in self._candidates(fitted, raised):
            fires = one.rule.fires(self._choose)
            bits = _bits(fires, chosen, _odds(one.right, one.fired, active, tokens))
            right = int((fires & chosen).sum())
            precision, recall = right / max(int(fires.sum()), 1), right / max(int(chosen.sum()), 1)
            bits += one.rule.bits(len(self._choose.words))
            found.append(FoundRule(one.rule, one.kind, bits, null, precision, recall))
        return min(found, key=lambda one: one.bits)

    def _candidates(self, values: Float[np.ndarray, "tokens"], raised: Sequence[str]) -> Iterator[_Candidate]:
        yield _Candidate("nothing", Rule(), 0, 0)
        everywhere = np.ones(len(values), dtype=bool)
        sets = list(self._of_shape("token", values, everywhere, _SIZES))
        yield from sets
        for shape in SHAPES:
            if shape != "token":
                yield from self._of_shape(shape, values, everywhere, _SIZES)
        best = sets[-1] if sets else _Candidate("token", Rule(), 0, 0)
        if 2 * best.right < _GOOD * (best.fired + int((values > 0).sum())):
            rest = ~best.rule.fires(self._fit.rows)
            for shape in ("pair", "pair with a gap", "triple", "token after") if sets else ():
                for more in self._of_shape(shape, values, rest, ()):
                    yield best.beside(more)
            for weights in weighted_rule(self._fit, values):
                yield self._counted("weighted", weights, values)
        for patterns in self._classes(values > 0):
            yield self._counted("class", self._valued(Clause(patterns), values), values)
        if words := tuple(TokenPattern("token", word) for word in dict.fromkeys(raised)):
            yield self._counted("output", self._valued(Clause(ANY, before=words), values), values)

    def _of_shape(
        self,
        shape: str,
        values: Float[np.ndarray, "tokens"],
        rest: Bool[np.ndarray, "tokens"],
        sizes: Sequence[int],
    ) -> Iterator[_Candidate]:
        """Rules of the groups on which the feature is mostly active, of several sizes up to the best F1's.

        Groups are disjoint, so that a rule's counts and values are sums of theirs: no rule is followed here.
        """
        groups = self._fit.groups[shape]
        active = (values > 0) & rest
        hits, size, total = (groups.sums(one) for one in (active, rest, values * rest))
        good = np.flatnonzero((hits >= _SUPPORT) & (hits >= _PRECISION * size) & (groups.keys >= 0).all(axis=1))
        if not len(good):
            return
        order = good[np.lexsort((-hits[good], -hits[good] / size[good]))]
        right, fired = hits[order].cumsum(), size[order].cumsum()
        best = int((2 * right / (fired + active.sum())).argmax()) + 1
        for count in sorted({*(one for one in sizes if one < best), min(best, max(_SIZES))}):
            chosen = order[:count]
            clauses = _clauses(groups.offsets, [self._words(row) for row in groups.keys[chosen]])
            valued = []
            for clause, members in clauses:
                value = float(total[chosen[members]].sum() / size[chosen[members]].sum())
                valued.append(replace(clause, value=rounded(value)))
            yield _Candidate(shape, Rule(tuple(valued)), int(right[count - 1]), int(fired[count - 1]))

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

    def _valued(self, clause: Clause, values: Float[np.ndarray, "tokens"]) -> Rule:
        """The rule of one clause, with the mean activation where it holds; no clause where that is never or 0."""
        fires = clause.fires(self._fit.rows)
        mean = rounded(float(values[fires].mean())) if fires.any() else 0.0
        return Rule((replace(clause, value=mean),) if mean > 0 else ())

    def _counted(self, kind: str, rule: Executable, values: Float[np.ndarray, "tokens"]) -> _Candidate:
        fires = rule.fires(self._fit.rows)
        return _Candidate(kind, rule, int((fires & (values > 0)).sum()), int(fires.sum()))


def rounded(value: float) -> float:
    """To the four digits that a rule prints."""
    return float(f"{value:.4g}")


def _clauses(offsets: tuple[int, ...], rows: Sequence[tuple[str, ...]]) -> list[tuple[Clause, list[int]]]:
    """Clauses of n-grams with the numbers of the rows in each: those that differ only at their first offset are one."""
    merged: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        merged.setdefault(row[1:], []).append(number)
    found = []
    for others, members in merged.items():
        firsts = tuple(TokenPattern("token", rows[number][0]) for number in members)
        known = dict(zip(offsets, (firsts, *((TokenPattern("token", one),) for one in others)), strict=True))
        after = tuple(known.get(offset, ANY) for offset in range(min(offsets[0], 0), 0))
        found.append((Clause(known.get(0, ANY), after, known.get(1, ())), members))
    return found


def _odds(right: int, fired: int, active: int, tokens: int) -> tuple[float, float]:
    """P(active) where a rule fires and where it does not, by Laplace's rule of succession."""
    return (right + 1) / (fired + 2), (active - right + 1) / (tokens - fired + 2)


def _bits(fires: Bool[np.ndarray, "tokens"], active: Bool[np.ndarray, "tokens"], odds: tuple[float, float]) -> float:
    """Length of a text's activity, given where a rule fires and the odds."""
    total = 0.0
    for where, chance in ((fires, odds[0]), (~fires, odds[1])):
        hits = int((active & where).sum())
        total -= hits * math.log2(chance) + (int(where.sum()) - hits) * math.log2(1 - chance)
    return total
