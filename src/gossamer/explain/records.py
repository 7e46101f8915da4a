"""What a study of explanations was asked, what it found, and the files that keep it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from gossamer.chat.chat import Ability
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain.answers import ExplanationScore
from gossamer.explain.controls import gold_ability
from gossamer.explain.corpus import WindowSettings
from gossamer.explain.explainers import EXPLAINERS, Explanation
from gossamer.explain.model_judges import MODEL_SCORERS
from gossamer.explain.scorers import CHAT_SCORERS, SCORERS
from gossamer.features.feature import Feature
from gossamer.results import Format, Record, record_format

RULE, PERSON, SHUFFLED, GOLD = "rule", "person", "shuffled", "gold"


@dataclass(frozen=True)
class ExplainSettings:
    """What is done to every feature.

    Attributes:
        explainers: "rule", and manners of a language model.
        scorers: see `SCORERS`; with a language model as judge `CHAT_SCORERS`; with models `MODEL_SCORERS`.
        windows: which text.
        neighbours: decoder neighbours that hard negatives are drawn from; none without dictionaries.
        seed: of the shuffled control and of all orders.
    """

    explainers: tuple[str, ...] = (RULE,)
    scorers: tuple[str, ...] = tuple(SCORERS)
    windows: WindowSettings = field(default_factory=WindowSettings)
    neighbours: int = 5
    seed: int = 0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for name, given, known in (
            ("explainers", self.explainers, (RULE, *EXPLAINERS)),
            ("scorers", self.scorers, (*SCORERS, *CHAT_SCORERS, *MODEL_SCORERS)),
        ):
            if wrong := [one for one in given if one not in known]:
                raise UsageError(f"{name}: some of {', '.join(known)} expected, found {wrong[0]!r}")


@dataclass(frozen=True)
class ExplanationRow:
    """What was said of a feature.

    Attributes:
        explanation: the sentence, or why there is none.
        active: tokens of the store on which the feature is active.
        saved: of a rule, the share of the validation text's bits that it saves.
        kind: of a rule.
    """

    explanation: Explanation
    active: int
    saved: float | None = None
    kind: str = ""

    __repr__ = short_repr


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one explanation by one judge.

    Attributes:
        explanation: what was scored.
        judge: name of the judge.
        scores: of every scorer.
        control: "", or "shuffled" where the sentence is another feature's.
    """

    explanation: Explanation
    judge: str
    scores: tuple[ExplanationScore, ...]
    control: str = ""

    __repr__ = short_repr

    def score(self, scorer: str) -> ExplanationScore | None:
        """That of one scorer."""
        return next((one for one in self.scores if one.scorer == scorer), None)


EXPLANATIONS: Format = record_format("gossamer.explanations", 1, ExplanationRow, "explanations of features")
SCORES: Format = record_format("gossamer.explanation_scores", 1, ScoreRow, "scores of explanations")


@dataclass(frozen=True)
class ExplainedFeatures:
    """A study of explanations.

    Attributes:
        settings: what was asked.
        explanations: a row a feature and explainer, and one for features without text enough.
        scores: a row an explanation, judge and control.
        gold: of each language model or embedder as judge, its score on questions whose answers are known.
    """

    settings: Mapping[str, object]
    explanations: tuple[ExplanationRow, ...]
    scores: tuple[ScoreRow, ...]
    gold: Mapping[str, ExplanationScore]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        told = [one for one in self.explanations if one.explanation.text]
        yield f"{len(told)} explanations, {len(self.explanations) - len(told)} failures"
        yield f"{len(self.scores)} of them scored"

    def ability(self, judge: str) -> Ability:
        """What a judge is worth by questions whose answers are known; one that was not asked any is able."""
        return gold_ability(self.gold[judge]) if judge in self.gold else Ability.ABLE

    def able(self, judge: str) -> bool:
        """Whether what a judge says of features counts."""
        return self.ability(judge) is Ability.ABLE

    @classmethod
    def load(cls, folder: str | Path) -> "ExplainedFeatures":
        """What a folder holds.

        Raises:
            UsageError: it holds no study.
            GossamerError: a file is damaged.
        """
        said, scored = EXPLANATIONS.load(Path(folder) / "explanations.json"), SCORES.load(Path(folder) / "scores.json")
        return cls.of(said, scored)

    @classmethod
    def of(cls, said: Record[ExplanationRow], scored: Record[ScoreRow] | None) -> "ExplainedFeatures":
        """From the two records; without scores nothing is scored."""
        rows = () if scored is None else scored.rows
        gold = {row.judge: row.scores[0] for row in rows if row.control == GOLD}
        return cls(said.settings, tuple(said.rows), tuple(row for row in rows if row.control != GOLD), gold)

    @cached_property
    def _by_feature(self) -> dict[tuple[Feature, str], list[ScoreRow]]:
        found: dict[tuple[Feature, str], list[ScoreRow]] = {}
        for row in self.scores:
            found.setdefault((row.explanation.feature, row.explanation.method), []).append(row)
        return found

    def scores_of(self, feature: Feature, method: str) -> list[ScoreRow]:
        """All scores at a feature: of what an explainer said of it, and of another feature's sentence (control)."""
        return self._by_feature.get((feature, method), [])
