"""What a run knows of a latent beside its card: tokens, explanations, relations, weights."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.app.explanation_page import explanation_shape, scores_beside
from gossamer.app.live import LiveModel
from gossamer.app.run_folder import RunFolder
from gossamer.app.schema.latents import Related, Said, StoredLabel, TokenMean
from gossamer.attention.direct import direct_attribution
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.heads import head_shares
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.explain.records import ExplainedFeatures
from gossamer.features.feature import Feature
from gossamer.features.prompt_latents import prompt_tokens
from gossamer.model.names import same_model
from gossamer.relations.relations_data import PromptGraph, RelationsData
from gossamer.report import text
from gossamer.results import Record
from gossamer.store.database import quoted
from gossamer.store.feature_store import FeatureStore

_TOKENS, _RELATED = 20, 40
_ATTENTION = ("z", "attn_out")


def token_means(store: FeatureStore, feature: Feature) -> list[TokenMean]:
    """The tokens of the vocabulary on which a latent's activation adds up to most."""
    rows = store.words_of(feature, limit=_TOKENS).to_pylist()
    return [TokenMean.model_validate({**row, "text": text.visible(row["text"])}) for row in rows]


def explanations(run: RunFolder, feature: Feature, model: str | None) -> list[Said]:
    """What studies of explanations in the run say of a latent of that model, with every score and failure."""
    found: list[Said] = []
    for part in run.parts().values():
        content = run.read(part).content if part.kind == "explanations" else None
        if isinstance(content, Record) and _same(model, content.settings.get("model")):
            study = ExplainedFeatures.of(content, scores_beside(run, part)[0])
            rows = (row for row in study.explanations if row.explanation.feature == feature)
            found += [Said(**dict(explanation_shape(study, row)), source=part.id) for row in rows]
    return found


def _same(one: str | None, other: Any) -> bool:
    return one is not None and isinstance(other, str) and same_model(one, other)


def stored_labels(store: FeatureStore, feature: Feature, source: str) -> list[StoredLabel]:
    """What a store keeps of what was said of a latent."""
    if not store.explained:
        return []
    where = f"site = {quoted(str(feature.site))} AND latent = {feature.latent:d}"
    rows = store.sql(f"SELECT text, method, score, scorer FROM explanations WHERE {where}").to_pylist()
    return [
        StoredLabel.model_validate(
            {**row, "text": text.visible(row["text"]), "method": row["method"] or "", "source": source}
        )
        for row in rows
    ]


def related(run: RunFolder, feature: Feature, model: str | None) -> tuple[list[Related], int]:
    """The latents that relations of the run put beside one, the strongest first; and how many are left out."""
    found: list[Related] = []
    for part in run.parts().values():
        content = run.read(part).content if part.kind == "relations" else None
        if isinstance(content, RelationsData) and content.graph is not None and _same(model, content.model):
            names = [one.name for one in content.dictionaries]
            found += _related(content.graph, names, feature, part.id)
    found.sort(key=lambda one: -abs(one.value or 0.0))
    return found[:_RELATED], max(len(found) - _RELATED, 0)


def _related(graph: PromptGraph, names: Sequence[str], feature: Feature, source: str) -> Iterator[Related]:
    """Edges of a latent, each by every measure that it has."""
    if str(feature.site) not in names:
        return
    here = (graph.dictionary.values == names.index(str(feature.site))) & (graph.latent.values == feature.latent)
    for node in np.flatnonzero(here).tolist():
        for ends, others, upstream in ((graph.tail, graph.head, True), (graph.head, graph.tail, False)):
            for edge in np.flatnonzero(ends.values == node).tolist():
                other = int(others.values[edge])
                name = f"{names[int(graph.dictionary.values[other])]}/{int(graph.latent.values[other])}"
                for measure, column in graph.values.items():
                    value = float(column.values[edge])
                    if not math.isnan(value):
                        low, high = graph.intervals.get(measure, (None, None))
                        yield Related(
                            feature=name,
                            upstream=upstream,
                            measure=measure,
                            value=value,
                            low=None if low is None else float(low.values[edge]),
                            high=None if high is None else float(high.values[edge]),
                            both=int(graph.c.values[edge]),
                            source=source,
                        )


@torch.no_grad()
def weight_facts(live: LiveModel, dictionary: Dictionary, feature: Feature) -> dict[str, Any]:
    """The fields of :class:`LatentWeights` that are numbers of the weights."""
    latent = feature.latent
    encoder, decoder = dictionary.W_enc[:, latent].float(), dictionary.W_dec[latent].float()
    same = dictionary.site_out is None
    heads = head_shares(live.model, dictionary).output[latent].tolist() if feature.site.kind == "z" else []
    return {
        "cosine": float(torch.cosine_similarity(encoder, decoder, dim=0)) if same else None,
        "encoder_norm": float(encoder.norm()),
        "decoder_norm": float(decoder.norm()),
        "bias": _at(dictionary.b_enc if dictionary.b_enc is not None else dictionary.b_mag, latent),
        "threshold": _at(dictionary.threshold, latent),
        "heads": heads,
    }


@torch.no_grad()
def source_facts(live: LiveModel, feature: Feature, given: str, position: int | None) -> dict[str, Any]:
    """The fields of :class:`SourceTokens` that are numbers.

    Raises:
        UsageError: no latent of attention, or no such token.
    """
    site, model = feature.site, live.model
    if site.kind not in _ATTENTION:
        raise UsageError(
            f"{feature}: a latent of attention expected ({', '.join(_ATTENTION)}), found one of {site.kind}"
        )
    tokens = prompt_tokens(model, given, live.bos)
    length = tokens.ids.shape[1]
    if position is not None and position >= length:
        raise UsageError(f"position: a token from 0 to {length - 1} expected, found {position}")
    frozen = FrozenPass.of(model, {site: live.dictionaries[site]}, tokens)
    latents = torch.tensor([feature.latent], device=model.device)
    # Entries are in the order of the tokens at which the dictionary counts.
    found = direct_attribution(frozen, site, position=position, latents=latents)
    if not len(found):
        raise UsageError(f"{site}: a token at which the dictionary counts expected, found none in this text")
    entry = int(found.activations.argmax())
    by_source = found.by_source[entry]
    largest = by_source.abs().max().clamp(min=1e-30)
    return {
        "feature": str(feature),
        "tokens": [text.visible(model.word(token)) for token in tokens.ids[0].tolist()],
        "position": int(found.positions[entry]),
        "layer": found.layer,
        "by_source": by_source.tolist(),
        "by_head": found.by_head[entry].tolist(),
        # All else is a constant of the weights.
        "bias": (found.pre_activations[entry] - by_source.sum()).item(),
        "pre_activation": found.pre_activations[entry].item(),
        "activation": found.activations[entry].item(),
        "shade": (by_source.abs() / largest).tolist(),
    }


def _at(values: Tensor | None, latent: int) -> float | None:
    """A latent's own number; one that all share where there is one alone."""
    if values is None:
        return None
    return float(values if values.ndim == 0 else values[latent])
