"""Where a feature is described elsewhere."""

import re
from typing import Any

from gossamer.dictionary.dictionary import Dictionary

# MODEL/SOURCE, as in gemma-2-2b/12-gemmascope-res-16k.
_NEURONPEDIA_ID = re.compile(r"[a-zA-Z0-9_.-]+/[a-zA-Z0-9_.-]+")


def neuronpedia_link(dictionary: Dictionary, latent: int) -> str | None:
    """Address of a latent's page on Neuronpedia; None where the dictionary's files name no source there."""
    found = _named(dictionary.provenance, "neuronpedia_id")
    if not isinstance(found, str) or not _NEURONPEDIA_ID.fullmatch(found):
        return None
    return f"https://www.neuronpedia.org/{found}/{latent}"


def _named(facts: Any, name: str) -> Any:
    """The first value of that name at any depth: libraries put it under `metadata`, `training` or at the top."""
    if not isinstance(facts, dict):
        return None
    if facts.get(name) is not None:
        return facts[name]
    return next((found for value in facts.values() if (found := _named(value, name)) is not None), None)
