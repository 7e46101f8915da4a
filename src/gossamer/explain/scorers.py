"""Scores of explanations on the windows of a test: the same items for a rule, a language model and a person."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gossamer.chat.chat import MOST_FAILURES, Failure
from gossamer.display import short_repr
from gossamer.explain.answers import (
    ExplanationScore,
    ItemCounts,
    JudgeAnswer,
    classified,
    item_counts,
)
from gossamer.explain.judges import ChatJudge, Judge, Marked
from gossamer.explain.metrics import average_precision, correlation_over_texts, gini, wilson
from gossamer.explain.windows import NEIGHBOUR, RANDOM, SAME_TOKENS, FeatureWindows, Window, shuffled

# Windows of a simulation: as many of the strongest as of random ones (Bills et al. 2023).
_SIMULATED = 10
# SAEBench's items: strongest, drawn by their squared activation, random.
_SAEBENCH = (2, 2, 10)


@dataclass(frozen=True)
class Trial:
    """An explanation and the windows that it is tested on.

    Attributes:
        windows: of the feature.
        explanation: what is said of it.
        seed: of orders and draws.
        mark: share of the feature's maximum from which tokens are marked for fuzzing.
    """

    windows: FeatureWindows
    explanation: str
    seed: int = 0
    mark: float = 0.3

    __repr__ = short_repr


def detection(test: Trial, judge: Judge) -> ExplanationScore:
    """Which whole windows are active, among random and hard silent ones."""
    return _detected("detection", test, judge, test.windows.negatives)


def detection_random(test: Trial, judge: Judge) -> ExplanationScore:
    """Detection among random silent windows alone, as it is usually published."""
    return _detected("detection_random", test, judge, test.windows.of_kind(RANDOM))


def detection_hard(test: Trial, judge: Judge) -> ExplanationScore:
    """Detection among hard silent windows alone: of the feature's own tokens, and of its decoder neighbours."""
    hard = (*test.windows.of_kind(SAME_TOKENS), *test.windows.of_kind(NEIGHBOUR))
    return _detected("detection_hard", test, judge, hard)


def _detected(name: str, test: Trial, judge: Judge, negatives: Sequence[Window]) -> ExplanationScore:
    windows = [*test.windows.positives, *negatives]
    order = shuffled(windows, test.seed)
    answers = judge.detect(test.explanation, [windows[one] for one in order])
    return classified(name, [windows[one].active for one in order], answers)


def fuzzing(test: Trial, judge: Judge) -> ExplanationScore:
    """Whether marked tokens are right; half of the texts are silent ones with as many marks at random places."""
    positives = _marked(test)
    draw = np.random.default_rng([test.seed, 5, test.windows.feature.latent])
    negatives = [_at_random(one, positives, draw) for one in test.windows.of_kind(RANDOM)]
    return _fuzzed("fuzzing", test, judge, positives, negatives)


def fuzzing_active(test: Trial, judge: Judge) -> ExplanationScore:
    """The same with negatives that are active texts too, whose marks stand at silent tokens (the harder kind)."""
    positives = _marked(test)
    draw = np.random.default_rng([test.seed, 6, test.windows.feature.latent])
    negatives = []
    for one in positives:
        silent = [place for place, value in enumerate(one.window.activations) if value == 0]
        if silent:
            count = min(len(one.places), len(silent))
            places = draw.choice(silent, count, replace=False)
            negatives.append(Marked(one.window, tuple(sorted(map(int, places)))))
    return _fuzzed("fuzzing_active", test, judge, positives, negatives)


def _marked(test: Trial) -> list[Marked]:
    level = test.mark * test.windows.maximum
    return [Marked(one, one.strong(level)) for one in test.windows.positives]


def _at_random(window: Window, positives: Sequence[Marked], draw: np.random.Generator) -> Marked:
    """Marks where those of an active text stand, so that places tell nothing; as many as they are on average."""
    mean = float(np.mean([len(one.places) for one in positives])) if positives else 1.0
    count = min(int(np.ceil(mean)), len(window.tokens))
    likely = [place for one in positives for place in one.places if place < len(window.tokens)]
    places = {int(draw.choice(likely))} if likely else set()
    while len(places) < count:
        places.add(int(draw.integers(len(window.tokens))))
    return Marked(window, tuple(sorted(places)))


def _fuzzed(name: str, test: Trial, judge: Judge, positives: list[Marked], negatives: list[Marked]) -> ExplanationScore:
    items, truths = [*positives, *negatives], [True] * len(positives) + [False] * len(negatives)
    order = [int(one) for one in np.random.default_rng([test.seed, 7, len(items)]).permutation(len(items))]
    answers = judge.fuzz(test.explanation, [items[one] for one in order])
    return classified(name, [truths[one] for one in order], answers)


def simulated(test: Trial, judge: Judge) -> ExplanationScore:
    """Pearson's correlation of activations and predictions over strongest and random windows, joined (Bills et al.).

    The interval is over windows (:func:`correlation_over_texts`). Windows that failed are left out and counted; they
    are no zeros.
    """
    strongest = sorted(test.windows.positives, key=lambda one: -one.maximum)[:_SIMULATED]
    windows = [*strongest, *test.windows.of_kind(RANDOM)[: len(strongest)]]
    predictions = judge.simulate(test.explanation, windows)
    pairs = [
        (window.activations, one)
        for window, one in zip(windows, predictions, strict=True)
        if not isinstance(one, Failure)
    ]
    unparsed, error = (predictions.count(kind) for kind in (Failure.UNPARSED, Failure.ERROR))
    counts = ItemCounts(right=len(pairs), unparsed=unparsed, error=error)
    if len(pairs) < (1 - MOST_FAILURES) * len(windows) or not any(any(true) for true, _ in pairs):
        reason = f"{1 - len(pairs) / len(windows):.0%} of the texts failed"
        return ExplanationScore("simulation", None, reason=reason, items=counts)
    found = correlation_over_texts([true for true, _ in pairs], [one for _, one in pairs])
    if found is None:
        return ExplanationScore("simulation", None, reason="the same prediction everywhere", items=counts)
    return ExplanationScore("simulation", found.value, found.low, found.high, items=counts)


def intruder(test: Trial, judge: ChatJudge, *, group: int = 5) -> ExplanationScore:
    """How often the silent window among active ones of one quantile group is found; no explanation is shown.

    It measures the feature, not a sentence. The silent window's marks stand where an active one's do. The share of
    right answers is compared with chance, 1 / group.
    """
    draw = np.random.default_rng([test.seed, 8, test.windows.feature.latent])
    groups, truths = [], []
    marked = _marked(test)
    silent = list(test.windows.of_kind(RANDOM))
    for stratum in sorted({one.window.stratum for one in marked if one.window.stratum is not None}):
        members = [one for one in marked if one.window.stratum == stratum]
        if len(members) < group - 1 or not silent:
            continue
        chosen = [members[int(one)] for one in draw.choice(len(members), group - 1, replace=False)]
        place = int(draw.integers(group))
        chosen.insert(place, _at_random(silent.pop(), members, draw))
        groups.append(chosen)
        truths.append(place)
    if not groups:
        return ExplanationScore("intruder", None, reason=f"no quantile group of {group - 1} active windows")
    answers = judge.intruders(groups, truths)
    return _share("intruder", answers)


def saebench(test: Trial, judge: ChatJudge) -> ExplanationScore:
    """SAEBench's protocol: the share of 14 windows, of which 4 are active, that were judged right in one answer.

    The balanced accuracy stands beside it because "None" alone gets 10 of 14. SAEBench's own random windows are not
    checked; these are silent. An answer that does not parse is counted, not dropped.
    """
    windows = saebench_windows(test)
    answers = judge.choose(test.explanation, windows)
    truths = [one.active for one in windows]
    counted = classified("saebench", truths, answers)
    if counted.value is None:
        return counted
    share = wilson(counted.items.right, len(truths))
    beside = {**counted.beside, "balanced_accuracy": counted.value}
    return replace(
        counted, value=share.value, low=share.low, high=share.high, worst=share.value, best=share.value, beside=beside
    )


def saebench_windows(test: Trial) -> list[Window]:
    """2 strongest, 2 drawn by squared activation from the others, 10 random silent ones, in a random order."""
    draw = np.random.default_rng([test.seed, 9, test.windows.feature.latent])
    ranked = sorted(test.windows.positives, key=lambda one: -one.maximum)
    top, rest = ranked[: _SAEBENCH[0]], ranked[_SAEBENCH[0] :]
    squares = np.array([one.maximum**2 for one in rest])
    chosen = draw.choice(len(rest), min(_SAEBENCH[1], len(rest)), replace=False, p=squares / squares.sum())
    windows = [*top, *(rest[int(one)] for one in chosen), *test.windows.of_kind(RANDOM)[: _SAEBENCH[2]]]
    return [windows[int(one)] for one in draw.permutation(len(windows))]


def fade(test: Trial, judge: ChatJudge) -> ExplanationScore:
    """FADE's responsiveness: the Gini index of activations of texts rated 2 against those rated 0, with its sign.

    Purity, the average precision, stands beside it. Source: Puri et al. 2025.
    """
    windows = [*test.windows.positives, *test.windows.of_kind(RANDOM)]
    ratings = judge.rate(test.explanation, windows)
    rated = [
        (window.maximum, one) for window, one in zip(windows, ratings, strict=True) if not isinstance(one, Failure)
    ]
    counts = rating_counts(ratings)
    yes, no = ([value for value, rating in rated if rating == wanted] for wanted in (2, 0))
    if len(rated) < (1 - MOST_FAILURES) * len(windows) or not yes or not no:
        reason = f"{len(yes)} texts rated 2, {len(no)} rated 0, {len(ratings) - len(rated)} failed"
        return ExplanationScore("fade", None, reason=reason, items=counts)
    purity = average_precision([*yes, *no], [True] * len(yes) + [False] * len(no))
    return ExplanationScore("fade", gini(yes, no), beside={"average_precision": purity}, items=counts)


def rating_counts(ratings: Sequence[int | Failure]) -> ItemCounts:
    """How ratings ended; every one that was given counts as right."""
    unparsed, error = (ratings.count(kind) for kind in (Failure.UNPARSED, Failure.ERROR))
    return ItemCounts(right=len(ratings) - unparsed - error, unparsed=unparsed, error=error)


def _share(name: str, answers: Sequence[JudgeAnswer]) -> ExplanationScore:
    """The share of right answers, of those that are answers."""
    known = [one.prediction for one in answers if one.prediction is not None]
    counts, failed = item_counts(known, answers), len(answers) - len(known)
    worst, best = sum(known) / len(answers), (sum(known) + failed) / len(answers)
    if failed > MOST_FAILURES * len(answers):
        reason = f"{failed / len(answers):.0%} of the items failed"
        return ExplanationScore(name, None, reason=reason, items=counts, worst=worst, best=best)
    found = wilson(sum(known), len(known))
    return ExplanationScore(name, found.value, found.low, found.high, items=counts, worst=worst, best=best)


# Scorers that every judge can do, and those that need a language model.
SCORERS: Mapping[str, Callable[[Trial, Judge], ExplanationScore]] = {
    "detection": detection,
    "detection_random": detection_random,
    "detection_hard": detection_hard,
    "fuzzing": fuzzing,
    "fuzzing_active": fuzzing_active,
    "simulation": simulated,
}
CHAT_SCORERS: Mapping[str, Callable[[Trial, ChatJudge], ExplanationScore]] = {
    "intruder": intruder,
    "saebench": saebench,
    "fade": fade,
}
