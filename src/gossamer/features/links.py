"""Where a feature is described elsewhere."""

import re
from collections.abc import Mapping
from typing import Any

from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.site import Site

# MODEL/SOURCE, as in gemma-2-2b/12-gemmascope-res-16k.
_NEURONPEDIA_ID = re.compile(r"([a-zA-Z0-9_.-]+)/([a-zA-Z0-9_.-]+)")


def neuronpedia_link(dictionary: Dictionary, latent: int) -> str | None:
    """Address of a latent's page on Neuronpedia; None where the dictionary's files name no source there."""
    found = _neuronpedia_id(dictionary)
    return None if found is None else f"https://www.neuronpedia.org/{found[0]}/{latent}"


def neuronpedia_set(dictionaries: Mapping[Site, Dictionary]) -> tuple[str, str | None] | None:
    """(model, source set) that all the dictionaries belong to on Neuronpedia, such as (gemma-2-2b, gemmascope-res-16k).

    The set is None unless it has just these dictionaries in their layers, so that layer and latent name a page there.
    None unless all their files name sources of one model.
    """
    ids = {site: _neuronpedia_id(dictionary) for site, dictionary in dictionaries.items()}
    models = {None if found is None else found[1] for found in ids.values()}
    if len(models) != 1 or (model := models.pop()) is None:
        return None
    sources = {site: str(found[2]).partition("-") for site, found in ids.items() if found is not None}
    names = {name for _, _, name in sources.values()}
    layers = {layer for layer, _, _ in sources.values()}
    own = all(layer == str(site.layer) for site, (layer, _, _) in sources.items())
    return model, (names.pop() or None) if len(names) == 1 and own and len(layers) == len(sources) else None


def _neuronpedia_id(dictionary: Dictionary) -> re.Match[str] | None:
    found = _named(dictionary.provenance, "neuronpedia_id")
    return _NEURONPEDIA_ID.fullmatch(found) if isinstance(found, str) else None


def _named(facts: Any, name: str) -> Any:
    """The first value of that name at any depth: libraries put it under `metadata`, `training` or at the top."""
    if not isinstance(facts, dict):
        return None
    if facts.get(name) is not None:
        return facts[name]
    return next((found for value in facts.values() if (found := _named(value, name)) is not None), None)
