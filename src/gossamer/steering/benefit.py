"""Whether text has a concept, without a judge: a list of words, and a classifier that has not seen these words."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.statistics import auroc

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


@dataclass(frozen=True)
class WordList:
    """Words that show a concept: whole words, whatever their case.

    Raises:
        UsageError: no words, or one that is none.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [word for word in self.words if not _WORD.fullmatch(word)]
        if not self.words or wrong:
            raise UsageError(f"words of a concept: single words expected, found {wrong[0] if wrong else 'none'!r}")

    @cached_property
    def _set(self) -> frozenset[str]:
        return frozenset(word.casefold() for word in self.words)

    def count(self, text: str) -> int:
        """How many of a text's words are in the list."""
        return sum(word.casefold() in self._set for word in _WORD.findall(text))

    def split(self, texts: Sequence[str]) -> tuple[list[str], list[str]]:
        """Texts that have one of the words, and texts that have none.

        Raises:
            UsageError: there are none of either sort.
        """
        sides: tuple[list[str], list[str]] = ([], [])
        for text in texts:
            sides[not self.count(text)].append(text)
        if not sides[0] or not sides[1]:
            which = "with" if not sides[0] else "without"
            raise UsageError(
                f"concept {listed(self.words)}: texts with and without it expected, found none {which} it among "
                f"{len(texts)}; give other words or more text"
            )
        return sides


def _terms(text: str, without: frozenset[str] = frozenset()) -> set[str]:
    """Words and pairs of neighbouring words."""
    words = [word for found in _WORD.findall(text) if (word := found.casefold()) not in without]
    return {*words, *(f"{one} {other}" for one, other in pairwise(words))}


@dataclass(frozen=True, eq=False)
class ConceptClassifier:
    """Logistic regression on words and pairs of words, made on texts from which the concept's own words were taken out,
    so that it knows more than the list.

    Attributes:
        terms: what it looks for.
        weights, bias: of each term, and of every text.
        auroc: on texts it was not fitted on.
    """

    terms: tuple[str, ...]
    weights: Float[Tensor, "terms"]
    bias: float
    auroc: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.terms), "term")
        yield f"AUROC {self.auroc:.3f} on texts of its own"

    @classmethod
    def fit(
        cls, texts: Sequence[str], words: WordList, *, window: int = 24, terms: int = 2000, l2: float = 1.0
    ) -> "ConceptClassifier":
        """Fit on pieces of `window` words, labelled by the list; every fifth text is kept for the AUROC.

        Memory: pieces x terms.

        Raises:
            UsageError: pieces with the concept or without it are missing on either side.
        """
        pieces: tuple[list[str], list[str]] = ([], [])
        for number, text in enumerate(texts):
            found = _WORD.findall(text)
            parts = [" ".join(found[start : start + window]) for start in range(0, len(found), window)]
            pieces[number % 5 == 4].extend(parts)
        labels = [torch.tensor([words.count(piece) > 0 for piece in side], dtype=torch.float64) for side in pieces]
        if any(len(side) == 0 or float(side.min()) == float(side.max()) for side in labels):
            raise UsageError(f"concept {listed(words.words)}: more text with it and without it expected")
        own = words._set
        counts = Counter(term for piece in pieces[0] for term in _terms(piece, own))
        known = tuple(term for term, count in counts.most_common(terms) if count > 1)
        fitted = cls(known, torch.zeros(len(known), dtype=torch.float64), 0.0, 0.5)._fitted(
            pieces[0], labels[0], own, l2
        )
        scores, truth = fitted.probabilities(pieces[1], own), labels[1] > 0
        return cls(known, fitted.weights, fitted.bias, auroc(scores[truth].tolist(), scores[~truth].tolist()))

    def probabilities(self, texts: Sequence[str], without: frozenset[str] = frozenset()) -> Float[Tensor, "texts"]:
        """That each text has the concept; `without` are words that are not looked at."""
        return (self._matrix(texts, without) @ self.weights + self.bias).sigmoid()

    def _matrix(self, texts: Sequence[str], without: frozenset[str]) -> Float[Tensor, "texts terms"]:
        column = {term: place for place, term in enumerate(self.terms)}
        found = torch.zeros(len(texts), len(self.terms), dtype=torch.float64)
        for row, text in enumerate(texts):
            found[row, [column[term] for term in _terms(text, without) if term in column]] = 1.0
        return found

    def _fitted(
        self, texts: Sequence[str], labels: Float[Tensor, "texts"], without: frozenset[str], l2: float
    ) -> "ConceptClassifier":
        """Both labels weigh the same."""
        x, positive = self._matrix(texts, without), labels.mean()
        weight = torch.where(labels > 0, 0.5 / positive, 0.5 / (1 - positive)) / len(labels)
        found = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([found], max_iter=60, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            logits = x @ found[:-1] + found[-1]
            fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, weight=weight, reduction="sum")
            (found.grad,) = torch.autograd.grad(total := fit + l2 / len(labels) * found[:-1].square().sum(), found)
            return total.detach()

        with torch.enable_grad():
            optimiser.step(loss)  # type: ignore[no-untyped-call]
        best = found.detach()
        return ConceptClassifier(self.terms, best[:-1], float(best[-1]), 0.5)
