"""Explain many features of a store and score what was said, with controls; it can be stopped and goes on."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from gossamer.chat.chat import Chat
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain import grammar
from gossamer.explain.answers import ExplanationScore
from gossamer.explain.controls import able, gold_items, judged, shuffled_explanations
from gossamer.explain.corpus import WindowedCorpus, WindowSettings
from gossamer.explain.explainers import EXPLAINERS, Evidence, Explanation, explained
from gossamer.explain.fitting import RuleFinder
from gossamer.explain.judges import ChatJudge, Judge, RuleJudge
from gossamer.explain.scorers import CHAT_SCORERS, SCORERS, Trial
from gossamer.explain.windows import FeatureWindows, Unexplained, decoder_neighbours, feature_windows
from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureCard
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.results import Format, Recorder, folder_lock, record_format, versions
from gossamer.store.feature_store import FeatureStore

RULE, PERSON, SHUFFLED = "rule", "person", "shuffled"
# Features whose explanations are asked for together.
_BATCH = 16


@dataclass(frozen=True)
class ExplainSettings:
    """What is done to every feature.

    Attributes:
        explainers: "rule", and manners of a language model.
        scorers: see `SCORERS` and, with a language model as judge, `CHAT_SCORERS`.
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
            ("scorers", self.scorers, (*SCORERS, *CHAT_SCORERS)),
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
        gold: of each language model as judge, its score on questions whose answers are known.
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

    def at_chance(self, judge: str) -> bool:
        """Whether a language model did no better than chance on questions whose answers are known."""
        return judge in self.gold and not able(self.gold[judge])

    @classmethod
    def load(cls, folder: str | Path) -> "ExplainedFeatures":
        """What a folder holds.

        Raises:
            UsageError: it holds no study.
            GossamerError: a file is damaged.
        """
        said, scored = EXPLANATIONS.load(Path(folder) / "explanations.json"), SCORES.load(Path(folder) / "scores.json")
        gold = {row.judge: row.scores[0] for row in scored.rows if row.control == "gold"}
        scores = tuple(row for row in scored.rows if row.control != "gold")
        return cls(said.settings, tuple(said.rows), scores, gold)


class ExplanationStudy:
    """Features, their windows, and who explains and judges them."""

    def __init__(
        self,
        store: FeatureStore,
        features: Sequence[Feature],
        settings: ExplainSettings | None = None,
        *,
        dictionaries: Mapping[Site, Dictionary] | None = None,
        chat: Chat | None = None,
        judge: ChatJudge | None = None,
        told: Mapping[Feature, str] | None = None,
        scored: int | None = None,
    ) -> None:
        """Nothing is read yet but the corpus.

        Args:
            store: what the features did on a corpus.
            features: which of them.
            settings: what is done.
            dictionaries: for hard negatives by decoder neighbours.
            chat: the language model that explains.
            judge: the language model that scores.
            told: sentences of people, scored beside the others.
            scored: features whose explanations are scored, drawn by the seed; None for all. Scoring asks a language
                model far more than explaining does.

        Raises:
            UsageError: a latent that the store has not, a language model that is needed and not given, or dictionaries
                that are not the store's.
        """
        self.settings, self.store = settings or ExplainSettings(), store
        if chat is None and any(one != RULE for one in self.settings.explainers):
            raise UsageError(f"explainers {', '.join(self.settings.explainers)}: a language model expected, found none")
        if judge is None and (wanted := [one for one in self.settings.scorers if one in CHAT_SCORERS]):
            raise UsageError(f"scorer {wanted[0]}: a language model as judge expected, found none")
        if dictionaries is not None:
            store.require(dictionaries=dictionaries)
        self.features = list(dict.fromkeys(Feature.parse("/".join(map(str, store.resolve(one)))) for one in features))
        if not self.features:
            raise UsageError("explain: at least one feature expected, found none")
        self.corpus = WindowedCorpus.of(store, self.settings.windows)
        self._chat, self.judge, self._told, self._dictionaries = chat, judge, dict(told or {}), dictionaries
        self._scored_count = scored

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.features)} features"
        yield repr(self.corpus)

    @property
    def to_score(self) -> list[Feature]:
        """The features whose explanations are scored, in the order of all features."""
        count = len(self.features)
        if self._scored_count is None or self._scored_count >= count:
            return self.features
        drawn = np.random.default_rng([self.settings.seed, 15]).choice(count, self._scored_count, replace=False)
        return [self.features[int(one)] for one in sorted(drawn)]

    def first(self, count: int, chat: Chat, judge: ChatJudge | None) -> "ExplanationStudy":
        """The same study of its first features alone, all of them scored, with others to explain and judge."""
        part = copy.copy(self)
        part.features, part.judge, part._scored_count = self.features[:count], judge, None
        part._chat = None if self._chat is None else chat
        return part

    def windows(self, feature: Feature) -> FeatureWindows | Unexplained:
        """Those of one feature."""
        values = self.corpus.activations(feature)
        near = self._neighbours.get(feature, ())
        return feature_windows(self.corpus, feature, values, [self.corpus.activations(one) for one in near])

    def run(self, folder: str | Path | None = None) -> ExplainedFeatures:
        """Explain, then score; what a folder holds of the same study is not done again.

        Every row is on disk as soon as it is there; answers of a server are cached, so that nothing is paid for twice.

        Args:
            folder: for explanations.json and scores.json; None keeps them in memory.

        Raises:
            UsageError: the folder holds another study.
            GossamerError: the money that may be spent is spent.
        """
        if folder is None:
            return self._run(None)
        with folder_lock(folder):
            return self._run(Path(folder))

    def _run(self, folder: Path | None) -> ExplainedFeatures:
        asked = self.asked()
        said = Recorder(folder and folder / "explanations.json", EXPLANATIONS, asked, versions())
        scored = Recorder(folder and folder / "scores.json", SCORES, asked, versions())
        self._explain_all(said)
        if self.judge is not None and not any(row.control == "gold" for row in scored.rows):
            gold = judged(self.judge, gold_items(self.corpus, self.settings.seed))
            empty = Explanation(self.features[0], "", "gold")
            scored.add(ScoreRow(empty, self.judge.name, (gold,), "gold"))
        self._score_all(said.rows, scored)
        gold_scores = {row.judge: row.scores[0] for row in scored.rows if row.control == "gold"}
        rows = tuple(row for row in scored.rows if row.control != "gold")
        return ExplainedFeatures(said.settings, tuple(said.rows), rows, gold_scores)

    def asked(self) -> dict[str, object]:
        """All that the numbers depend on."""
        manifest = self.store.manifest
        return {
            "settings": self.settings,
            "corpus": manifest.corpus,
            "model": manifest.model,
            "dictionaries": {name: one.sha256 for name, one in manifest.dictionaries.items()},
            "features": [str(one) for one in self.features],
            "neighbours": self._dictionaries is not None,
            "explainer": "" if self._chat is None else self._chat.model,
            "judge": "" if self.judge is None else self.judge.name,
            "told": {str(feature): text for feature, text in self._told.items()},
            "scored": self._scored_count,
        }

    def _explain_all(self, said: Recorder[ExplanationRow]) -> None:
        done = {row.explanation.feature for row in said.rows}
        left = [one for one in self.features if one not in done]
        advance = begin("explanations", len(self.features))
        advance(len(self.features) - len(left), "")
        for start in range(0, len(left), _BATCH):
            part = left[start : start + _BATCH]
            said.add(*self._explained(part))
            advance(len(part), "")

    def _explained(self, features: Sequence[Feature]) -> list[ExplanationRow]:
        """Rows of some features, feature by feature."""
        found: dict[Feature, list[ExplanationRow]] = {one: [] for one in features}
        evidence: list[Evidence] = []
        cards = self.store.cards(features)
        for feature, card in cards.items():
            windows = self.windows(feature)
            if isinstance(windows, Unexplained):
                reason = Explanation(feature, "", "", failure=windows.reason)
                found[feature].append(ExplanationRow(reason, card.active))
                continue
            evidence.append(Evidence(windows, card.promotes, card.suppresses))
            if feature in self._told:
                found[feature].append(ExplanationRow(Explanation(feature, self._told[feature], PERSON), card.active))
            if RULE in self.settings.explainers:
                found[feature].append(self._rule(feature, card))
        for method in self.settings.explainers:
            if method != RULE and evidence and self._chat is not None:
                for one in explained(self._chat, method, evidence):
                    found[one.feature].append(ExplanationRow(one, cards[one.feature].active))
        return [row for feature in features for row in found[feature]]

    def _rule(self, feature: Feature, card: FeatureCard) -> ExplanationRow:
        raised = [word for word, _ in card.promotes]
        found = self._finder.find(self.corpus.activations(feature), raised)
        return ExplanationRow(Explanation(feature, str(found.rule), RULE), card.active, found.saved, found.kind)

    def _score_all(self, said: Sequence[ExplanationRow], scored: Recorder[ScoreRow]) -> None:
        """Each explanation by each judge that can read it, then the same sentences at other features."""
        told = [row.explanation for row in said if row.explanation.text]
        by_method = {method: [one for one in told if one.method == method] for method in {one.method for one in told}}
        wrong = [
            other
            for several in by_method.values()
            if len(several) > 1
            for other in shuffled_explanations(several, self.settings.seed)
        ]
        done = {(row.explanation.feature, row.explanation.method, row.judge, row.control) for row in scored.rows}
        to_score = self.to_score
        advance = begin("scores", len(to_score))
        for feature in to_score:
            rows = [
                (one, control, judge)
                for control, several in (("", told), (SHUFFLED, wrong))
                for one in several
                if one.feature == feature
                for judge in self._judges(one.text)
                if (feature, one.method, judge.name, control) not in done
            ]
            if rows:
                windows = self.windows(feature)
                assert isinstance(windows, FeatureWindows)
                scored.add(*(self._scored(windows, *row) for row in rows))
            advance(1, str(feature))

    def _judges(self, text: str) -> list[Judge]:
        """Those that can read an explanation: rules are followed, and asked about as well where there is a model."""
        try:
            is_rule = grammar.parse(text) is not None
        except UsageError:
            is_rule = False
        found: list[Judge] = [RuleJudge()] if is_rule else []
        return found if self.judge is None else [*found, self.judge]

    def _scored(self, windows: FeatureWindows, explanation: Explanation, control: str, judge: Judge) -> ScoreRow:
        test = Trial(windows, explanation.text, self.settings.seed, self.settings.windows.mark)
        scores = [SCORERS[name](test, judge) for name in self.settings.scorers if name in SCORERS]
        if isinstance(judge, ChatJudge):
            scores += [CHAT_SCORERS[name](test, judge) for name in self.settings.scorers if name in CHAT_SCORERS]
        return ScoreRow(explanation, judge.name, tuple(scores), control)

    @cached_property
    def _finder(self) -> RuleFinder:
        return RuleFinder(self.corpus)

    @cached_property
    def _neighbours(self) -> dict[Feature, list[Feature]]:
        found: dict[Feature, list[Feature]] = {}
        if self._dictionaries is None or not self.settings.neighbours:
            return found
        by_name = {str(site): one for site, one in self._dictionaries.items()}
        for site in {one.site for one in self.features}:
            dictionary = by_name.get(str(site))
            if dictionary is None:
                raise UsageError(f"explain: a dictionary at {site} expected, found {', '.join(by_name)}")
            latents = [one.latent for one in self.features if one.site == site]
            near = decoder_neighbours(dictionary, latents, self.settings.neighbours)
            found |= {
                Feature(site, latent): [Feature(site, one) for one in several] for latent, several in near.items()
            }
        return found


def choose_features(
    store: FeatureStore, count: int, *, site: str | None = None, least: int = 100, seed: int = 0
) -> list[Feature]:
    """Features drawn at random among those that are active on enough tokens, so that none is picked by its looks.

    Raises:
        UsageError: no such site, or none active enough.
    """
    where = f"active >= {int(least)}"
    if site is not None:
        name, _ = store.resolve(Feature(Site.parse(site), 0))
        where += f" AND site = '{name}'"
    rows = store.sql(f"SELECT site, latent FROM statistics WHERE {where} ORDER BY site, latent", limit=None)
    if not len(rows):
        raise UsageError(f"{store.url}: features active on {least} tokens expected, found none; use a larger store")
    pairs = list(zip(rows["site"].to_pylist(), rows["latent"].to_pylist(), strict=True))
    chosen = np.random.default_rng([seed, 12]).choice(len(pairs), min(count, len(pairs)), replace=False)
    return [Feature(Site.parse(pairs[one][0]), pairs[one][1]) for one in sorted(map(int, chosen))]
