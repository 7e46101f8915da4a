"""Explain many features of a store and score what was said, with controls; it can be stopped and goes on."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from gossamer.chat.chat import Chat
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, short_repr
from gossamer.errors import UsageError
from gossamer.explain import grammar
from gossamer.explain.controls import gold_items, judged, shuffled_explanations
from gossamer.explain.corpus import WindowedCorpus
from gossamer.explain.explainers import Evidence, Explanation, explained
from gossamer.explain.fitting import RuleFinder
from gossamer.explain.judges import ChatJudge, Judge, RuleJudge
from gossamer.explain.model_judges import MODEL_SCORERS, FeaturesModel, ModelJudge, WritingJudge
from gossamer.explain.records import (
    EXPLANATIONS,
    GOLD,
    PERSON,
    RULE,
    SCORES,
    SHUFFLED,
    ExplainedFeatures,
    ExplainSettings,
    ExplanationRow,
    ScoreRow,
)
from gossamer.explain.scorers import CHAT_SCORERS, SCORERS, Trial
from gossamer.explain.windows import FeatureWindows, Unexplained, decoder_neighbours, feature_windows
from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureCard
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.results import Recorder, folder_lock, versions
from gossamer.store.feature_store import FeatureStore

# Features whose explanations are asked for together.
_BATCH = 16


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
        features_model: FeaturesModel | None = None,
        judges: Sequence[ModelJudge] = (),
    ) -> None:
        """Nothing is read yet but the corpus.

        Args:
            store: what the features did on a corpus.
            features: which of them.
            settings: what is done.
            dictionaries: for hard negatives by decoder neighbours; those at the store's sites are taken.
            chat: the language model that explains.
            judge: the language model that scores.
            told: sentences of people, scored beside the others.
            scored: features whose explanations are scored, drawn by the seed; None for all. Scoring asks a language
                model far more than explaining does.
            features_model: says which tokens an amplified feature makes likelier, for output-centric explanations;
                None: these do without.
            judges: models that score in ways of their own, for `MODEL_SCORERS`.

        Raises:
            UsageError: a latent that the store has not, a model that is needed and not given, or dictionaries or a
                model of the features that are not the store's.
        """
        self.settings, self.store = settings or ExplainSettings(), store
        if chat is None and any(one != RULE for one in self.settings.explainers):
            raise UsageError(f"explainers {', '.join(self.settings.explainers)}: a language model expected, found none")
        if judge is None and (wanted := [one for one in self.settings.scorers if one in CHAT_SCORERS]):
            raise UsageError(f"scorer {wanted[0]}: a language model as judge expected, found none")
        able_to = {scorer for one in judges for scorer in one.scorers}
        if lacking := [one for one in self.settings.scorers if one in MODEL_SCORERS and one not in able_to]:
            raise UsageError(f"scorer {lacking[0]}: a model for it among `judges` expected, found none")
        if features_model is not None:
            store.own(features_model.dictionaries)
            store.require(model=features_model.model)
        self.features = list(dict.fromkeys(Feature.parse("/".join(map(str, store.resolve(one)))) for one in features))
        if not self.features:
            raise UsageError("explain: at least one feature expected, found none")
        self.corpus = WindowedCorpus.of(store, self.settings.windows)
        self._chat, self.judge, self._told = chat, judge, dict(told or {})
        self._dictionaries = None if dictionaries is None else store.own(dictionaries)
        self._scored_count, self.features_model, self.model_judges = scored, features_model, tuple(judges)

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
        # Only what asks a language model is counted.
        writers = [one for one in self.model_judges if isinstance(one, WritingJudge)]
        part.model_judges = tuple(WritingJudge(judge.chat, one.features) for one in writers if judge is not None)
        part.features_model = None
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
        self._ask_gold(scored)
        self._score_all(said.rows, scored)
        return ExplainedFeatures.of(said.record, scored.record)

    def _ask_gold(self, scored: Recorder[ScoreRow]) -> None:
        """Every judge but the rules' own on questions whose answers are known, once."""
        done = {row.judge for row in scored.rows if row.control == GOLD}
        judges: list[Judge | ModelJudge] = [*([] if self.judge is None else [self.judge]), *self.model_judges]
        for judge in judges:
            if judge.name in done:
                continue
            items = gold_items(self.corpus, self.settings.seed)
            gold = judge.gold(items) if isinstance(judge, ModelJudge) else judged(judge, items)
            if gold is not None:
                scored.add(ScoreRow(Explanation(self.features[0], "", "gold"), judge.name, (gold,), GOLD))

    def asked(self) -> dict[str, object]:
        """All that the numbers depend on."""
        manifest = self.store.manifest
        models = {"judges": [one.name for one in self.model_judges]} if self.model_judges else {}
        if self.features_model is not None:
            models["features_model"] = [self.features_model.model.title]
        return {
            **models,
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
            changed = self._changed(feature)
            evidence.append(Evidence(windows, card.promotes, card.suppresses, changed))
            if feature in self._told:
                found[feature].append(ExplanationRow(Explanation(feature, self._told[feature], PERSON), card.active))
            if RULE in self.settings.explainers:
                found[feature].append(self._rule(feature, card))
        for method in self.settings.explainers:
            if method != RULE and evidence and self._chat is not None:
                for one in explained(self._chat, method, evidence):
                    found[one.feature].append(ExplanationRow(one, cards[one.feature].active))
        return [row for feature in features for row in found[feature]]

    def _changed(self, feature: Feature) -> tuple[str, ...]:
        """What an output-centric explainer sees of what amplifying the feature does."""
        if self.features_model is None or "output" not in self.settings.explainers:
            return ()
        return self.features_model.changed(feature, self.corpus)

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

    def _judges(self, text: str) -> list[Judge | ModelJudge]:
        """Those that can read an explanation: rules are followed, and asked about as well where there is a model."""
        try:
            is_rule = grammar.parse(text) is not None
        except UsageError:
            is_rule = False
        found: list[Judge | ModelJudge] = [RuleJudge()] if is_rule else []
        return [*found, *([] if self.judge is None else [self.judge]), *self.model_judges]

    def _scored(
        self, windows: FeatureWindows, explanation: Explanation, control: str, judge: Judge | ModelJudge
    ) -> ScoreRow:
        test = Trial(windows, explanation.text, self.settings.seed, self.settings.windows.mark)
        if isinstance(judge, ModelJudge):
            own = [name for name in self.settings.scorers if name in judge.scorers]
            return ScoreRow(
                explanation, judge.name, tuple(judge.score(name, test, self.corpus) for name in own), control
            )
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
        for site in {one.site for one in self.features}:
            dictionary = self._dictionaries.get(site)
            if dictionary is None:
                raise UsageError(f"explain: a dictionary at {site} expected, found {listed(self._dictionaries)}")
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
        name = str(Site.parse(site))
        if name not in store.manifest.dictionaries:
            raise UsageError(f"site: one of {listed(store.manifest.dictionaries)} expected, found {name}")
        where += f" AND site = '{name}'"
    rows = store.sql(f"SELECT site, latent FROM statistics WHERE {where} ORDER BY site, latent", limit=None)
    if not len(rows):
        raise UsageError(f"{store.url}: features active on {least} tokens expected, found none; use a larger store")
    pairs = list(zip(rows["site"].to_pylist(), rows["latent"].to_pylist(), strict=True))
    chosen = np.random.default_rng([seed, 12]).choice(len(pairs), min(count, len(pairs)), replace=False)
    return [Feature(Site.parse(pairs[one][0]), pairs[one][1]) for one in sorted(map(int, chosen))]
