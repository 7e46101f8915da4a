"""Are you smarter than an LLM? A round of features to be named and texts to be sorted, the same for all who play."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain.answers import JudgeAnswer
from gossamer.explain.corpus import WindowedCorpus, WindowSettings
from gossamer.explain.fitting import RuleFinder
from gossamer.explain.grammar import spoken
from gossamer.explain.judges import ChatJudge, RuleJudge
from gossamer.explain.metrics import balanced_accuracy, wilson
from gossamer.explain.rules import Rule
from gossamer.explain.study import choose_features
from gossamer.explain.windows import FeatureWindows, Unexplained, Window, decoder_neighbours, feature_windows
from gossamer.features.feature import Feature
from gossamer.files import read_json, write_json
from gossamer.model.site import Site, SiteMapping
from gossamer.statistics import Interval
from gossamer.store.feature_store import FeatureStore

# Windows that are shown of each quantile group, groups, texts to be sorted, sentences to choose from.
_PER_GROUP, _GROUPS, _SORTED, _CHOICES = 2, 4, 10, 4
# Features that are drawn for each of a round: some have too few texts, or no sentence.
_DRAWN = 10
# Of a feature that no rule was found for; it names nothing that could be told apart.
_NOTHING = str(Rule())


@dataclass(frozen=True)
class GameItem:
    """One feature of a round.

    Attributes:
        blind: a name that says nothing of the feature.
        feature: the latent; told after the round.
        shown: active texts with their strong tokens marked, two of each quarter of its activations.
        sentence: what the store or a rule says of it; machines follow it.
        choices: sentences as people say them (:func:`gossamer.explain.grammar.spoken`), one of them the feature's.
        right: number of that one, from 0.
        sorted: texts without marks, half of them active, in the order in which all players get them.
    """

    blind: str
    feature: Feature
    shown: tuple[Window, ...]
    sentence: str
    choices: tuple[str, ...]
    right: int
    sorted: tuple[Window, ...]

    __repr__ = short_repr

    @property
    def truths(self) -> tuple[bool, ...]:
        """Which of the texts are active."""
        return tuple(one.active for one in self.sorted)


@dataclass(frozen=True)
class Played:
    """What a player said.

    Attributes:
        player: a name.
        chosen: whether the right sentence was chosen, an item each; None where one was written instead.
        written: what was written instead.
        answers: which texts were said to be active, item by item; None where there is no answer.
    """

    player: str
    chosen: tuple[bool | None, ...]
    written: tuple[str, ...]
    answers: tuple[tuple[bool | None, ...], ...]

    __repr__ = short_repr

    def to_json(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)


@dataclass(frozen=True)
class GameRound:
    """Features to be guessed, and what the machines said of the same texts.

    Attributes:
        name: of the round: the same features and texts have the same one.
        model: whose features they are.
        items: in their order.
        machines: players that are no people.
    """

    name: str
    model: str
    items: tuple[GameItem, ...]
    machines: tuple[Played, ...] = ()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.name}, {len(self.items)} features"


def new_round(
    store: FeatureStore,
    features: Sequence[Feature],
    count: int = 10,
    *,
    dictionaries: SiteMapping[Dictionary] | None = None,
    windows: WindowSettings | None = None,
    seed: int = 0,
) -> GameRound:
    """A round of the first features that have texts enough and a sentence.

    Args:
        store: what they did on a corpus.
        features: to be guessed; those that are active too rarely, and those that neither the store nor a rule says
            anything of, are passed over.
        count: of the round.
        dictionaries: for sentences of decoder neighbours among the wrong ones; without them other features' are taken.
        windows: which text.
        seed: of all draws.

    Raises:
        UsageError: no feature has texts enough and a sentence, or dictionaries that are not the store's.
    """
    settings = windows or WindowSettings(seed=seed)
    # Eight texts to show and five to sort are enough for a game.
    corpus = WindowedCorpus.of(store, replace(settings, strata=_GROUPS, least=min(settings.least, 10)))
    finder = RuleFinder(corpus)
    found: dict[Feature, tuple[FeatureWindows, str]] = {}
    for feature in features:
        if len(found) == count:
            break
        made = feature_windows(corpus, feature, corpus.activations(feature))
        if not isinstance(made, Unexplained) and (text := _said(store, feature, finder)) != _NOTHING:
            found[feature] = (made, text)
    if not found:
        raise UsageError(
            f"{store.url}: features with texts enough and a rule expected for a game, found none among "
            f"{len(features)}; use a larger store"
        )
    near = {} if dictionaries is None else _neighbours(store.own(dictionaries), list(found))
    items = []
    for feature, (made, text) in found.items():
        likely = [_said(store, one, finder) for one in near.get(feature, [])]
        others = [*(one for one in likely if one != _NOTHING), *(other for _, other in found.values())]
        items.append(_item(feature, made, text, others, seed))
    name = hashlib.sha256(json.dumps([store.manifest.corpus, [str(one) for one in found], seed]).encode()).hexdigest()
    return GameRound(name[:8], store.manifest.model, tuple(items))


def drawn_round(
    store: FeatureStore,
    count: int = 10,
    seed: int = 0,
    *,
    site: str | None = None,
    dictionaries: SiteMapping[Dictionary] | None = None,
    judge: ChatJudge | None = None,
    windows: WindowSettings | None = None,
) -> GameRound:
    """A round of features that are drawn at random, with what the machines say of it: the seed decides all of it.

    Raises:
        UsageError: no feature of the store is active often enough.
    """
    chosen = choose_features(store, _DRAWN * count, site=site, seed=seed)
    # In a random order: those of the first site would come first.
    chosen = [chosen[int(one)] for one in np.random.default_rng([seed, 16]).permutation(len(chosen))]
    made = new_round(store, chosen, count, dictionaries=dictionaries, windows=windows, seed=seed)
    return machine_players(made, judge)


def _said(store: FeatureStore, feature: Feature, finder: RuleFinder) -> str:
    """What the store says of a feature, else its rule."""
    card = store.card(feature)
    raised = [word for word, _ in card.promotes]
    return card.explanation or str(finder.find(finder.corpus.activations(feature), raised).rule)


def _neighbours(dictionaries: Mapping[Site, Dictionary], features: Sequence[Feature]) -> dict[Feature, list[Feature]]:
    """The two nearest of each feature."""
    found: dict[Feature, list[Feature]] = {}
    for site, dictionary in dictionaries.items():
        latents = [one.latent for one in features if one.site == site]
        for latent, near in decoder_neighbours(dictionary, latents, 2).items():
            found[Feature(site, latent)] = [Feature(site, one) for one in near]
    return found


def _item(feature: Feature, windows: FeatureWindows, text: str, others: Sequence[str], seed: int) -> GameItem:
    # Texts do not depend on how many sentences there are.
    draw, order_draw = (np.random.default_rng([seed, purpose, feature.latent]) for purpose in (13, 14))
    right = spoken(text)
    wrong = [one for one in dict.fromkeys(map(spoken, others)) if one != right][: _CHOICES - 1]
    choices = [right, *wrong]
    order = [int(one) for one in order_draw.permutation(len(choices))]
    shown = []
    for stratum in range(_GROUPS):
        group = [one for one in windows.shown if one.stratum == stratum]
        shown += [group[int(one)] for one in draw.permutation(len(group))[:_PER_GROUP]]
    half = _SORTED // 2
    # Half of the silent ones are as hard as there are.
    hard = [one for one in windows.negatives if one.kind != "random"][: half // 2]
    silent = [*hard, *(one for one in windows.negatives if one not in hard)][:half]
    active = [windows.positives[int(one)] for one in draw.permutation(len(windows.positives))[:half]]
    texts = [*active, *silent]
    blind = hashlib.sha256(f"{feature}/{text}".encode()).hexdigest()[:6]
    return GameItem(
        blind,
        feature,
        tuple(shown),
        text,
        tuple(choices[one] for one in order),
        order.index(0),
        tuple(texts[int(one)] for one in draw.permutation(len(texts))),
    )


def machine_players(made: GameRound, judge: ChatJudge | None = None) -> GameRound:
    """The round with what a rule and, where there is one, a language model say of the same texts.

    Each is given the feature's own sentence: what is compared with a person is how far the words carry.
    """
    players = [_machine("rule", made, RuleJudge())]
    if judge is not None:
        players.append(_machine(judge.name, made, judge))
    return replace(made, machines=tuple(one for one in players if one is not None))


def _machine(name: str, made: GameRound, judge: RuleJudge | ChatJudge) -> Played | None:
    answers: list[Sequence[JudgeAnswer]] = []
    for item in made.items:
        text = item.sentence
        try:
            answers.append(judge.detect(text, item.sorted))
        except UsageError:
            # A sentence that is no rule: the follower of rules does not play it.
            answers.append([JudgeAnswer()] * len(item.sorted))
    if all(one.prediction is None for several in answers for one in several):
        return None
    said = tuple(tuple(one.prediction for one in several) for several in answers)
    return Played(name, (None,) * len(made.items), ("",) * len(made.items), said)


def result(made: GameRound, played: Played) -> tuple[Interval | None, Interval | None]:
    """Balanced accuracy of the sorting over all answers, and the share of right choices; None where there are none."""
    pairs = [
        (truth, said)
        for item, answers in zip(made.items, played.answers, strict=True)
        for truth, said in zip(item.truths, answers, strict=True)
        if said is not None
    ]
    cells = [(True, True), (True, False), (False, False), (False, True)]
    tp, fn, tn, fp = (sum(pair == cell for pair in pairs) for cell in cells)
    chosen = [one for one in played.chosen if one is not None]
    sorting = balanced_accuracy(tp, fn, tn, fp) if tp + fn and tn + fp else None
    return sorting, wilson(sum(chosen), len(chosen)) if chosen else None


def add_to_board(path: str | Path, made: GameRound, played: Played) -> list[dict[str, Any]]:
    """Add a player to the leader board's file, and return the board of this round, the best first.

    Raises:
        UsageError: the file holds something else.
    """
    rows = [*_kept(path), {**_row(made, played), "at": time.strftime("%Y-%m-%d %H:%M")}]
    write_json(path, {"format": "gossamer.game.1", "rows": rows})
    return board(path, made)


def board(path: str | Path, made: GameRound, *beside: Played) -> list[dict[str, Any]]:
    """The leader board of a round, the best first: the machines, who is in the file, and who is in no file.

    Raises:
        UsageError: the file holds something else.
    """
    unkept = [{**_row(made, one), "at": ""} for one in (*made.machines, *beside)]
    same = [*unkept, *(row for row in _kept(path) if row["round"] == made.name)]
    return sorted(same, key=lambda row: -(row["sorting"] or 0.0))


def _kept(path: str | Path) -> list[dict[str, Any]]:
    if not Path(path).is_file():
        return []
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("format") != "gossamer.game.1":
        raise UsageError(f"{path}: a leader board expected, found something else; give another path")
    rows: list[dict[str, Any]] = stored["rows"]
    return rows


def _row(made: GameRound, played: Played) -> dict[str, Any]:
    sorting, choosing = result(made, played)
    found: Mapping[str, Any] = {
        "round": made.name,
        "player": played.player,
        "sorting": None if sorting is None else sorting.value,
        "low": None if sorting is None else sorting.low,
        "high": None if sorting is None else sorting.high,
        "choosing": None if choosing is None else choosing.value,
    }
    return {**found, "features": [str(one.feature) for one in made.items], "said": played.to_json()}
