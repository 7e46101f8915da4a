"""Search over a run: latents by name, label, token and logit word, nodes of circuits, files."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple, get_args

from gossamer.app.python_calls import store_command
from gossamer.app.run_folder import Part
from gossamer.app.schema.search import Hit, HitCount, Kind
from gossamer.app.sets import FoundSet, all_sets
from gossamer.app.workbench import Workbench
from gossamer.display import facts_of
from gossamer.errors import GossamerError, UsageError
from gossamer.explain.explainers import Explanation
from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureCard
from gossamer.features.lens import has_words, most_raising
from gossamer.report import text
from gossamer.results import Record
from gossamer.store.feature_store import FeatureStore
from gossamer.store.search import Search, terms

KINDS: tuple[Kind, ...] = get_args(Kind)
# What a store's hits are sorted by.
_MEASURES: dict[Kind, str] = {
    "explanation": "BM25",
    "token": "share of tokens in common (Ochiai)",
    "word": "change of the word's logit",
}
# Multiplications that reading all words off a dictionary's weights may take: half a minute on one core.
_MOST_PRODUCTS = 3e11


class _Store(NamedTuple):
    """A feature store with the set of dictionaries that it is of, and which of its sites."""

    part: Part
    dictionaries: str
    sites: tuple[str, ...]


def search(
    bench: Workbench, asked: str, kinds: tuple[Kind, ...], limit: int, *, weights: bool = False
) -> tuple[list[Hit], list[HitCount], list[str]]:
    """What fits, kind by kind; how much of each is listed; and why something could not be searched.

    With `weights`, words that latents raise are read off the weights where no store has them: that loads the model.
    """
    sets, notes = list(all_sets(bench.run)), list[str]()
    stores = _stores(bench, sets)
    if not stores and {"token", "word"} & set(kinds):
        how = next((f" ({store_command(bench, one)} makes one)" for one in sets), "")
        notes.append(
            f"no feature store of these dictionaries in the run: tokens, words and stored labels were not searched{how}"
        )
    sources: dict[Kind, Callable[[], Iterator[Hit]]] = {
        "id": lambda: _by_name(sets, asked),
        "explanation": lambda: _by_explanation(bench, sets, stores, asked, limit + 1),
        "token": lambda: _in_stores(bench, stores, "token", Search(token=asked), limit + 1),
        "word": lambda: (
            _by_weights(bench, sets, asked, limit + 1)
            if weights and not stores
            else _in_stores(bench, stores, "word", Search(word=asked), limit + 1)
        ),
        "node": lambda: _by_node(bench, asked),
        "file": lambda: _by_file(bench, asked),
    }
    hits: list[Hit] = []
    counts: list[HitCount] = []
    for kind in kinds:
        try:
            found = list(islice(sources[kind](), limit + 1))
        except GossamerError as error:
            notes.append(f"{kind}: {error}")
            continue
        counts.append(HitCount(kind=kind, listed=min(len(found), limit), more=len(found) > limit))
        hits += found[:limit]
    return hits, counts, notes


def _stores(bench: Workbench, sets: list[FoundSet]) -> list[_Store]:
    """Each store once, for the first set that has one there."""
    found: dict[str, _Store] = {}
    for one in sets:
        sites: dict[str, list[str]] = {}
        parts = {}
        for site, part in bench.stores.of(one).items():
            sites.setdefault(part.id, []).append(site)
            parts[part.id] = part
        for identifier, part in parts.items():
            found.setdefault(identifier, _Store(part, one.part.id, tuple(sites[identifier])))
    return list(found.values())


def _by_name(sets: list[FoundSet], asked: str) -> Iterator[Hit]:
    """SITE/LATENT, or the number of a latent alone."""
    for one in sets:
        for site, dictionary in one.shapes.items():
            try:
                feature = Feature(site, int(asked)) if asked.isdecimal() else Feature.parse(asked)
            except (UsageError, ValueError):
                return
            inside = dictionary is None or 0 <= feature.latent < dictionary.n_latents
            if feature.site == site and inside and not feature.is_error:
                name = str(feature)
                yield Hit(kind="id", dictionaries=one.part.id, feature=name, text=name, source=one.part.id)


def _in_stores(bench: Workbench, stores: list[_Store], kind: Kind, asked: Search, limit: int) -> Iterator[Hit]:
    """A store's own search by one thing, with the latent's label beside it; stores in turn, each by its scores."""
    for one in stores:
        with bench.stores.use(one.part) as store:
            rows = _rows(store, asked, limit)
            features = [Feature.parse(f"{row['site']}/{row['latent']}") for row in rows if row["site"] in one.sites]
            labels = {feature: card.label for feature, card in store.cards(features).items()}
        scores = {f"{row['site']}/{row['latent']}": row["score"] for row in rows}
        for feature in features:
            yield Hit(
                kind=kind,
                dictionaries=one.dictionaries,
                feature=str(feature),
                text=text.visible(labels[feature]),
                score=scores[str(feature)],
                measure=_MEASURES[kind],
                source=one.part.id,
            )


def _by_weights(bench: Workbench, sets: list[FoundSet], asked: str, limit: int) -> Iterator[Hit]:
    """Latents that raise a word most, whatever its case and the space before it; dictionaries in turn."""
    for one in sets:
        with bench.model(one.part.id) as live:
            model, wanted = live.model, asked.casefold()
            tokens = [token for token in range(model.d_vocab) if model.word(token).strip().casefold() == wanted]
            if not tokens:
                raise GossamerError(f"{asked!r} is no single token of {one.model}; search a word that is")
            for site, dictionary in live.dictionaries.items():
                if not has_words(model, dictionary):
                    continue
                if dictionary.n_latents * model.d_vocab * model.d_model > _MOST_PRODUCTS:
                    raise GossamerError(f"{site}: too large to read all of its words now; {store_command(bench, one)}")
                for latent, token, change in most_raising(model, dictionary, tokens, limit):
                    yield Hit(
                        kind="word",
                        dictionaries=one.part.id,
                        feature=str(Feature(site, latent)),
                        text=text.visible(model.word(token)),
                        score=change,
                        measure=_MEASURES["word"],
                        source=one.part.id,
                    )


def _rows(store: FeatureStore, asked: Search, limit: int) -> list[dict[str, Any]]:
    """Nothing where the store has no such token, words or labels."""
    lacks_words = asked.word is not None and not store.manifest.settings.words
    if lacks_words or (asked.explanation is not None and not store.explained):
        return []
    try:
        rows: list[dict[str, Any]] = store.search(asked, limit=limit).to_pylist()
    except UsageError:
        return []  # a token that does not occur in the corpus
    return rows


def _by_explanation(
    bench: Workbench, sets: list[FoundSet], stores: list[_Store], asked: str, limit: int
) -> Iterator[Hit]:
    """Stored labels by BM25, then sentences of studies that have all the words."""
    words = terms(asked)
    if not words:
        return
    yield from _in_stores(bench, stores, "explanation", Search(explanation=asked), limit)
    for part in bench.run.parts().values():
        content = bench.run.read(part).content if part.kind == "explanations" else None
        for row in content.rows if isinstance(content, Record) else ():
            said: Explanation = row.explanation
            home = next((one.part.id for one in sets if said.feature.site in one.shapes), "")
            if said.text and home and set(words) <= set(terms(said.text)):
                shown = text.visible(said.text)
                yield Hit(kind="explanation", dictionaries=home, feature=str(said.feature), text=shown, source=part.id)


def _by_node(bench: Workbench, asked: str) -> Iterator[Hit]:
    """Nodes of circuits whose name, label, explanation or words have what was asked, the strongest first."""
    for part in bench.run.parts().values():
        if part.kind != "circuit" or bench.run.read(part).content is None:
            continue
        findings = bench.circuit(part.id).findings
        cards = [] if findings is None else sorted(findings.nodes, key=lambda one: -abs(one.effect))
        for one in cards:
            if asked.lower() in f"{one.node} {one.role} {_words(one.card)}".lower():
                yield Hit(
                    kind="node",
                    dictionaries=part.id,
                    feature=str(one.card.feature),
                    text=f"{one.node}: {text.visible(one.card.label)}",
                    score=one.effect,
                    measure="effect",
                    source=part.id,
                )


def _words(card: FeatureCard) -> str:
    return " ".join([card.explanation or "", *(word for word, _ in card.promotes)])


def _by_file(bench: Workbench, asked: str) -> Iterator[Hit]:
    """Files by their place, kind and what they say of themselves."""
    for part in bench.run.parts().values():
        reading = bench.run.checked(part)
        facts = [] if reading.content is None else list(facts_of(reading.content))
        said = ", ".join([part.kind, *facts])
        if asked.lower() in f"{part.id} {said}".lower():
            yield Hit(kind="file", text=f"{part.path.relative_to(bench.run.path).as_posix()}: {said}", source=part.id)
