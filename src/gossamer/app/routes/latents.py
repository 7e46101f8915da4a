"""The latent view: any latent of a circuit's dictionaries, on its prompts and on a text of the reader's own."""

from typing import Annotated

import torch
from fastapi import APIRouter, Query

from gossamer.app.circuit_page import card_shape, example_shape
from gossamer.app.schema.base import PartId
from gossamer.app.schema.latents import LatentPage, Tested, TestRequest
from gossamer.app.workbench import Workbench
from gossamer.circuits.evaluate.rerun import RestoredCircuit
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.errors import UsageError
from gossamer.features import Feature, FeatureCard, FeatureExample, feature_cards
from gossamer.features.examples import ExampleSettings
from gossamer.features.prompt_latents import prompt_tokens

# Of a latent's page: strongest examples, and groups of its range with a few of each.
_EXAMPLES = ExampleSettings(k=8, window=None, strata=5, per_stratum=2)
# Cards that are kept: each takes a pass over the prompts.
_KEPT = 256


def latent_routes(bench: Workbench) -> APIRouter:
    """Latents of the dictionaries of a circuit."""
    routes = APIRouter(prefix="/circuits/{circuit}/latents")
    cards: dict[tuple[str, Feature], FeatureCard] = {}

    @routes.get("")
    def latent(circuit: PartId, feature: Annotated[str, Query(max_length=60)]) -> LatentPage:
        """What a latent does on the training prompts of the circuit's task."""
        wanted = Feature.parse(feature)
        with bench.restored(circuit) as found:
            key = (found.circuit.sha256, wanted)
            if key not in cards:
                if len(cards) >= _KEPT:
                    cards.pop(next(iter(cards)))
                cards[key] = _card(found, wanted)
            return LatentPage(
                **bench.said(found.circuit.sha256),
                feature=str(wanted),
                file=str(bench.content(circuit, "circuit")[0].path),
                nodes=_nodes(bench, wanted),
                card=card_shape(cards[key], f"the training prompts of {found.study.task.name}"),
            )

    @routes.post("/test")
    def test(circuit: PartId, asked: TestRequest) -> Tested:
        """A latent at every token of a text."""
        wanted = Feature.parse(asked.feature)
        with bench.restored(circuit) as found:
            dictionary, model = _dictionary(found, wanted), found.study.model
            tokens = prompt_tokens(model, asked.text, found.study.task.bos or None)
            counted = counted_for(model, [dictionary], tokens)[0]
            with torch.no_grad():
                x = model.capture(tokens, [wanted.site])[wanted.site]
                column = torch.tensor([wanted.latent], device=x.device)
                values = dictionary.encode_dense(x, column)[0, :, 0].float() * counted
            words = tuple(model.word(token) for token in tokens.ids[0].tolist())
            example = FeatureExample(words, tuple(values.tolist()), int(values.argmax()), 0)
            return Tested(
                **bench.said(found.circuit.sha256),
                feature=str(wanted),
                counted=counted.tolist(),
                example=example_shape(example, float(values.max())),
            )

    return routes


def _dictionary(found: RestoredCircuit, feature: Feature) -> Dictionary:
    dictionary = found.study.dictionaries.get(feature.site)
    if dictionary is None:
        known = ", ".join(map(str, found.study.dictionaries))
        raise UsageError(f"{feature}: a site of the circuit's dictionaries expected ({known})")
    if feature.latent >= dictionary.n_latents:
        raise UsageError(f"{feature}: a latent from 0 to {dictionary.n_latents - 1} expected")
    return dictionary


def _card(found: RestoredCircuit, feature: Feature) -> FeatureCard:
    _dictionary(found, feature)
    study = found.study
    tokens = study.task.train.clean.tokens.to("cpu")
    return feature_cards(study.model, study.dictionaries, [feature], tokens, settings=_EXAMPLES)[feature]


def _nodes(bench: Workbench, feature: Feature) -> list[str]:
    """Where circuits of the run hold a latent of this name."""
    known = []
    for part in bench.run.parts().values():
        circuit = bench.run.read(part).content if part.kind == "circuit" else None
        if circuit is not None:
            known += [f"{part.id} {node}" for node in circuit.nodes if node.feature == feature]
    return known
