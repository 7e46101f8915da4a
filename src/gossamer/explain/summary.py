"""A study in a few lines: means over features with intervals, controls, failures, and judges that can judge nothing."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from gossamer.chat.chat import Ability
from gossamer.display import short_repr
from gossamer.explain.answers import ItemCounts
from gossamer.explain.metrics import mean_over_features
from gossamer.explain.records import RULE, ExplainedFeatures, ScoreRow
from gossamer.statistics import Interval

RANDOM_WEIGHTS = "random weights"


@dataclass(frozen=True)
class SummaryLine:
    """One explainer, judge, scorer and control.

    Attributes:
        method, judge, scorer, control: which.
        mean: over the features that have a score; None where none has, or where the judge is not able.
        scored, unscored: features.
        items: how the items of all features ended.
        ability: of the judge, by questions whose answers are known.
    """

    method: str
    judge: str
    scorer: str
    control: str
    mean: Interval | None
    scored: int
    unscored: int
    items: ItemCounts
    ability: Ability

    __repr__ = short_repr

    @property
    def said(self) -> str:
        """The mean, or why there is none."""
        if self.ability is not Ability.ABLE:
            return f"judge {self.ability}"
        return "unscored" if self.mean is None else str(self.mean)

    @property
    def failures(self) -> float:
        """Share of the items that were unparsed or errors."""
        return self.items.failures


def summary(found: ExplainedFeatures, random_weights: ExplainedFeatures | None = None) -> list[SummaryLine]:
    """All lines of a study, controls after what they are for.

    Args:
        found: the study.
        random_weights: the same of a model of the same shape whose weights are random.
    """
    rows = [(row, row.control) for row in found.scores]
    if random_weights is not None:
        rows += [(row, RANDOM_WEIGHTS) for row in random_weights.scores if not row.control]
    groups: dict[tuple[str, str, str, str], list[ScoreRow]] = {}
    for row, control in rows:
        for one in row.scores:
            groups.setdefault((row.explanation.method, row.judge, one.scorer, control), []).append(row)
    order = ("", "shuffled", RANDOM_WEIGHTS)
    keys = sorted(groups, key=lambda key: (key[0] != RULE, key[0], key[1], order.index(key[3])))
    return [_line(found, key, groups[key]) for key in keys]


def _line(found: ExplainedFeatures, key: tuple[str, str, str, str], rows: Sequence[ScoreRow]) -> SummaryLine:
    method, judge, scorer, control = key
    scores = [one for row in rows if (one := row.score(scorer)) is not None]
    values = [one.value for one in scores if one.value is not None]
    totals = [sum(column) for column in zip(*(astuple(one.items) for one in scores), strict=True)]
    mean = mean_over_features(values) if found.able(judge) else None
    unscored = len(scores) - len(values)
    return SummaryLine(
        method, judge, scorer, control, mean, len(values), unscored, ItemCounts(*totals), found.ability(judge)
    )


def no_better_than_words(found: ExplainedFeatures, scorer: str = "detection") -> dict[str, tuple[int, int]]:
    """By explainer: of how many features its explanation does not beat the rule by its interval, of how many compared.

    A sentence is no better than a rule that a program found if the lower end of its score's interval is at most the
    rule's score. What a judge that is not able says is left out.
    """
    rules, others = {}, []
    for row in found.scores:
        one = row.score(scorer)
        if row.control or not found.able(row.judge) or one is None or one.value is None or one.low is None:
            continue
        if row.explanation.method == RULE and row.judge == "rule":
            rules[row.explanation.feature] = one.value
        elif row.explanation.method != RULE:
            others.append((row.explanation, one.low))
    compared: dict[str, list[bool]] = {}
    for explanation, low in others:
        if explanation.feature in rules:
            compared.setdefault(explanation.method, []).append(low <= rules[explanation.feature])
    return {method: (sum(several), len(several)) for method, several in compared.items()}
