"""The latent view: any latent of a set of dictionaries, and what it does on a text of the reader's own."""

from typing import Annotated, NamedTuple

import torch
from fastapi import APIRouter, Query

from gossamer.app.circuit_page import card_shape, example_shape
from gossamer.app.latent_page import explanations, related, source_facts, stored_labels, token_means, weight_facts
from gossamer.app.python_calls import loading, sources_call
from gossamer.app.run_folder import Part
from gossamer.app.schema.base import PartId
from gossamer.app.schema.latents import (
    LatentPage,
    LatentWeights,
    SourceRequest,
    SourceTokens,
    StoredLabel,
    Tested,
    TestRequest,
    TokenMean,
)
from gossamer.app.sets import FoundSet, circuit_with, circuits_with, found_set
from gossamer.app.workbench import Workbench
from gossamer.circuits.evaluate.rerun import Dictionaries
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.errors import UsageError
from gossamer.features import Feature, FeatureCard, FeatureExample, feature_cards
from gossamer.features.cards import card_of_weights
from gossamer.features.examples import ExampleSettings
from gossamer.features.prompt_latents import prompt_tokens

# Of a latent's page: strongest examples, and groups of its range with a few of each.
_EXAMPLES = ExampleSettings(k=8, window=None, strata=5, per_stratum=2)
# Cards that are kept: each takes a pass over the prompts.
_KEPT = 256
_NO_TEXT = "no text: this run has neither a feature store nor a circuit of these dictionaries"


class _Found(NamedTuple):
    """A latent's card, of which text it is, and the call that gives it."""

    card: FeatureCard
    text: str
    python: str
    store: str | None = None
    tokens: list[TokenMean] = []  # noqa: RUF012  (never changed)
    labels: list[StoredLabel] = []  # noqa: RUF012


def latent_routes(bench: Workbench) -> APIRouter:
    """Latents of a set of dictionaries."""
    routes = APIRouter(prefix="/dicts/{dictionaries}/latent")
    cards: dict[tuple[str, float, Feature], _Found] = {}

    @routes.get("")
    def latent(dictionaries: PartId, feature: Annotated[str, Query(max_length=60)]) -> LatentPage:
        """What a latent does on a text of the run, and what its weights say."""
        wanted, found = Feature.parse(feature), found_set(bench.run, dictionaries)
        store = bench.stores.of(found).get(str(wanted.site))
        if store is not None:
            one = _stored(bench, store, wanted)
        else:
            # Without a store a card takes a pass over the prompts: it is kept.
            key = (str(found.part.path), found.part.modified, wanted)
            if key not in cards:
                if len(cards) >= _KEPT:
                    cards.pop(next(iter(cards)))
                cards[key] = _card(bench, found, wanted)
            one = cards[key]
        near, hidden = related(bench.run, wanted, found.model)
        return LatentPage(
            **bench.said(),
            feature=str(wanted),
            nodes=_nodes(bench, circuits_with(bench.run, found), wanted),
            card=card_shape(one.card, one.text),
            store=one.store,
            tokens=one.tokens,
            labels=one.labels,
            said=explanations(bench.run, wanted, found.model),
            related=near,
            related_hidden=hidden,
            python=one.python,
        )

    @routes.get("/weights")
    def weights(dictionaries: PartId, feature: Annotated[str, Query(max_length=60)]) -> LatentWeights:
        """What a latent's weights say by themselves."""
        wanted, found = Feature.parse(feature), found_set(bench.run, dictionaries)
        with bench.model(found.part.id) as live:
            facts = weight_facts(live, _dictionary(live.dictionaries, wanted), wanted)
            return LatentWeights(**bench.said(), feature=str(wanted), **facts)

    @routes.post("/test")
    def test(dictionaries: PartId, asked: TestRequest) -> Tested:
        """A latent at every token of a text."""
        wanted, found = Feature.parse(asked.feature), found_set(bench.run, dictionaries)
        with bench.model(found.part.id) as (model, loaded, bos):
            dictionary = _dictionary(loaded, wanted)
            tokens = prompt_tokens(model, asked.text, bos)
            counted = counted_for(model, [dictionary], tokens)[0]
            with torch.no_grad():
                x = model.capture(tokens, [wanted.site])[wanted.site]
                column = torch.tensor([wanted.latent], device=x.device)
                values = dictionary.encode_dense(x, column)[0, :, 0].float() * counted
            words = tuple(model.word(token) for token in tokens.ids[0].tolist())
            example = FeatureExample(words, tuple(values.tolist()), int(values.argmax()), 0)
            return Tested(
                **bench.said(),
                feature=str(wanted),
                counted=counted.tolist(),
                example=example_shape(example, float(values.max())),
            )

    @routes.post("/sources")
    def sources(dictionaries: PartId, asked: SourceRequest) -> SourceTokens:
        """Which heads and tokens an attention latent came from on a text."""
        wanted, found = Feature.parse(asked.feature), found_set(bench.run, dictionaries)
        with bench.model(found.part.id) as live:
            _dictionary(live.dictionaries, wanted)
            facts = source_facts(live, wanted, asked.text, asked.position)
            return SourceTokens(**bench.said(), **facts, python=sources_call(bench, found, asked, facts["position"]))

    return routes


def _dictionary(dictionaries: Dictionaries, feature: Feature) -> Dictionary:
    dictionary = dictionaries.get(feature.site)
    if dictionary is None:
        known = ", ".join(map(str, dictionaries))
        raise UsageError(f"{feature}: a site of the dictionaries expected ({known})")
    if not 0 <= feature.latent < dictionary.n_latents:
        raise UsageError(f"{feature}: a latent from 0 to {dictionary.n_latents - 1} expected")
    return dictionary


def _card(bench: Workbench, found: FoundSet, feature: Feature) -> _Found:
    named = f"feature = Feature.parse({str(feature)!r})\n"
    circuit = circuit_with(bench.run, found)
    if circuit is None:
        with bench.model(found.part.id) as (model, dictionaries, _):
            _dictionary(dictionaries, feature)
            call = f"from gossamer import Feature\nfrom gossamer.features.cards import card_of_weights\n\n{named}"
            python = f"{loading(bench, found)}\n{call}print(card_of_weights(model, dictionaries, feature))"
            return _Found(card_of_weights(model, dictionaries, feature), _NO_TEXT, python)
    with bench.restored(circuit) as restored:
        study = restored.study
        _dictionary(study.dictionaries, feature)
        tokens = study.task.train.clean.tokens.to("cpu")
        card = feature_cards(study.model, study.dictionaries, [feature], tokens, settings=_EXAMPLES)[feature]
        lines = loading(bench, found_set(bench.run, circuit))
        call = f"from gossamer import Feature, feature_cards\n\n{named}"
        python = f"{lines}\n{call}print(feature_cards(model, dictionaries, [feature], study.task)[feature])"
        return _Found(card, f"the training prompts of {study.task.name}", python)


def _stored(bench: Workbench, part: Part, feature: Feature) -> _Found:
    """What a feature store says of a latent."""
    with bench.stores.use(part) as store:
        python = (
            "from gossamer.store import FeatureStore\n\n"
            f"with FeatureStore({str(part.path.parent)!r}) as store:\n    print(store.card({str(feature)!r}))"
        )
        labels = stored_labels(store, feature, part.id)
        return _Found(
            store.card(feature),
            f"the store {part.path.parent.name}",
            python,
            part.id,
            token_means(store, feature),
            labels,
        )


def _nodes(bench: Workbench, circuits: list[str], feature: Feature) -> list[str]:
    """Where circuits in these dictionaries hold the latent."""
    nodes = ((one, node) for one in circuits for node in bench.content(one, "circuit")[1].nodes)
    return [f"{one} {node}" for one, node in nodes if node.feature == feature]
