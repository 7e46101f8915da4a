"""What a score must be seen beside: the same sentences at other features, and questions whose answers are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gossamer.chat.chat import Ability, ability
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain.answers import ExplanationScore, classified
from gossamer.explain.corpus import TEST, WindowedCorpus
from gossamer.explain.explainers import Explanation
from gossamer.explain.judges import Judge
from gossamer.explain.windows import Window
from gossamer.statistics import Interval

# Words that gold items are made of, and windows of each with and without it.
_WORDS, _EACH = 5, 4


@dataclass(frozen=True)
class GoldItem:
    """A question whose answer is known: does this word occur?

    Attributes:
        explanation: a sentence that names the word; `rule`, the same in the grammar.
        windows: texts with and without it, with an activation of 1 at the word.
    """

    explanation: str
    rule: str
    windows: tuple[Window, ...]

    __repr__ = short_repr


def gold_items(corpus: WindowedCorpus, seed: int = 0) -> list[GoldItem]:
    """Questions about words of the corpus that a reader of English cannot get wrong.

    Words have four letters or more, stand in 2 to 30 per cent of the windows, and are drawn by the seed.

    Raises:
        UsageError: the corpus has no such words.
    """
    windows = np.flatnonzero(corpus.split == TEST)
    numbers = np.repeat(np.arange(len(corpus.split)), corpus.lengths)
    pairs = np.unique(np.stack([numbers, corpus.ids]), axis=1)
    often = np.bincount(pairs[1][np.isin(pairs[0], windows)], minlength=len(corpus.words)) / len(windows)
    plain = [word.strip().lower() for word in corpus.words]
    good = [
        number
        for number, word in enumerate(plain)
        if len(word) >= 4 and word.isalpha() and corpus.words[number].startswith(" ") and 0.02 <= often[number] <= 0.3
    ]
    if len(good) < _WORDS:
        raise UsageError(
            f"gold items: {_WORDS} words that some windows have expected, found {len(good)}; use more text"
        )
    draw = np.random.default_rng([seed, 10])
    return [_gold(corpus, plain, int(one), windows, draw) for one in draw.choice(good, _WORDS, replace=False)]


def _gold(
    corpus: WindowedCorpus, plain: Sequence[str], word: int, windows: np.ndarray, draw: np.random.Generator
) -> GoldItem:
    same = np.isin(corpus.ids, [number for number, text in enumerate(plain) if text == plain[word]])
    there = np.add.reduceat(same, corpus.bounds[:-1])[windows] > 0
    chosen = [
        int(one)
        for kind in (there, ~there)
        for one in draw.choice(windows[kind], min(_EACH, int(kind.sum())), replace=False)
    ]
    found = []
    for number in (chosen[int(one)] for one in draw.permutation(len(chosen))):
        inside = slice(int(corpus.bounds[number]), int(corpus.bounds[number + 1]))
        tokens = tuple(corpus.words[one] for one in corpus.ids[inside].tolist())
        active = tuple(map(float, same[inside]))
        found.append(Window(int(corpus.documents[inside.start]), int(corpus.positions[inside.start]), tokens, active))
    name = plain[word]
    return GoldItem(f'the word "{name}"', f"activates on {name}", tuple(found))


def judged(judge: Judge, items: Sequence[GoldItem], *, rules: bool = False) -> ExplanationScore:
    """What a judge makes of gold items: its balanced accuracy over all of them.

    Args:
        judge: a language model, or the follower of rules.
        items: see :func:`gold_items`.
        rules: give the sentences in the grammar.
    """
    truths, answers = [], []
    for item in items:
        answers += judge.detect(item.rule if rules else item.explanation, item.windows)
        truths += [one.active for one in item.windows]
    return classified("gold", truths, answers)


def gold_ability(gold: ExplanationScore) -> Ability:
    """What a judge is worth by gold items (:func:`gossamer.chat.chat.ability`).

    AUROC counts where there are probabilities, the balanced accuracy elsewhere.
    """
    if gold.value is None or gold.low is None or gold.high is None:
        return ability(None)
    return ability(gold.auroc or Interval(gold.value, gold.low, gold.high))


def shuffled_explanations(explanations: Sequence[Explanation], seed: int = 0) -> list[Explanation]:
    """The same texts, each at another feature: what a score says of sentences that are not about the feature.

    Texts are shifted along a random order, so that none stays where it was.

    Raises:
        UsageError: fewer than two features.
    """
    told = [place for place, one in enumerate(explanations) if one.text]
    if len(told) < 2:
        raise UsageError(f"shuffled explanations: two features with one expected, found {len(told)}")
    order = [told[int(one)] for one in np.random.default_rng([seed, 11]).permutation(len(told))]
    found = list(explanations)
    for here, there in zip(order, [*order[1:], order[0]], strict=True):
        found[here] = replace(explanations[here], text=explanations[there].text)
    return found
