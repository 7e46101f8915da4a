"""The prompt view: a text, token by token, as a set of dictionaries sees it."""

import torch
from fastapi import APIRouter

from gossamer.app.live import LiveModel
from gossamer.app.schema.base import PartId
from gossamer.app.schema.prompts import (
    LatentAt,
    Prediction,
    PromptPage,
    PromptRequest,
    RemovalRequest,
    Removals,
    SiteTokens,
    TokenAt,
)
from gossamer.app.sets import found_set
from gossamer.app.workbench import Workbench
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.features import Feature
from gossamer.features.lens import has_words, logit_lens
from gossamer.features.prompt_latents import LatentsAtSite, PromptLatents, prompt_latents, without_each
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.report import text

_PREDICTIONS, _WORDS = 10, 3


def prompt_routes(bench: Workbench) -> APIRouter:
    """Texts of the reader's own."""
    routes = APIRouter(prefix="/dicts/{dictionaries}/prompt")

    @routes.post("")
    def prompt(dictionaries: PartId, asked: PromptRequest) -> PromptPage:
        """Each token's latents by activation and by attribution to a next token."""
        with bench.model(found_set(bench.run, dictionaries).part.id) as live:
            model, found = live.model, _found(live, asked)
            return PromptPage(
                **bench.said(),
                tokens=[text.visible(model.word(token)) for token in found.tokens.ids[0].tolist()],
                counted=found.counted.tolist(),
                at=found.at,
                target=_prediction(model, found, found.target),
                predictions=[
                    _prediction(model, found, token) for token in found.log_probs.topk(_PREDICTIONS).indices.tolist()
                ],
                sites=[
                    SiteTokens(
                        site=str(site),
                        tokens=_tokens(model, live.dictionaries[site], site, one, found, asked.count),
                    )
                    for site, one in found.sites.items()
                ],
            )

    @routes.post("/removals")
    def removals(dictionaries: PartId, asked: RemovalRequest) -> Removals:
        """What the model says without each of some latents at one token, exactly."""
        with bench.model(found_set(bench.run, dictionaries).part.id) as live:
            site = Site.parse(asked.site)
            if site not in live.dictionaries:
                raise UsageError(f"site: one of {', '.join(map(str, live.dictionaries))} expected, found {site}")
            latents = torch.tensor(asked.latents, device=live.model.device)
            found = _found(live, asked)
            changes = without_each(live.model, live.dictionaries, found, site, asked.position, latents)
            return Removals(**bench.said(), latents=asked.latents, changes=changes.tolist())

    return routes


def _found(live: LiveModel, asked: PromptRequest) -> PromptLatents:
    model, dictionaries, bos = live
    return prompt_latents(model, dictionaries, asked.text, bos=bos, at=asked.at, target=asked.target)


def _prediction(model: LanguageModel, found: PromptLatents, token: int) -> Prediction:
    probability = found.log_probs[token].exp().item()
    return Prediction(token=token, word=text.visible(model.word(token)), probability=probability)


def _tokens(
    model: LanguageModel, dictionary: Dictionary, site: Site, one: LatentsAtSite, found: PromptLatents, count: int
) -> list[TokenAt]:
    """The latents of every token, the strongest first, each with the words that it raises."""
    count = min(count, dictionary.n_latents)
    strong = one.activations.topk(count, dim=1).indices
    telling = one.attributions.abs().topk(count, dim=1).indices
    listed = []
    for position, counted in enumerate(found.counted.tolist()):
        chosen = dict.fromkeys([*strong[position].tolist(), *telling[position].tolist()]) if counted else {}
        listed.append([latent for latent in chosen if one.activations[position, latent] > 0])
    words = _words(model, dictionary, sorted({latent for latents in listed for latent in latents}))
    return [
        TokenAt(
            active=int((one.activations[position] > 0).sum()),
            error_share=one.error_share[position].item(),
            latents=[
                LatentAt(
                    feature=str(Feature(site, latent)),
                    words=words.get(latent, []),
                    activation=one.activations[position, latent].item(),
                    attribution=one.attributions[position, latent].item(),
                )
                for latent in latents
            ],
        )
        for position, latents in enumerate(listed)
    ]


def _words(model: LanguageModel, dictionary: Dictionary, latents: list[int]) -> dict[int, list[str]]:
    if not latents or not has_words(model, dictionary):
        return {}
    lens = logit_lens(model, dictionary, latents, words=_WORDS)
    return {latent: [text.visible(word) for word, _ in one.promotes] for latent, one in zip(latents, lens, strict=True)}
