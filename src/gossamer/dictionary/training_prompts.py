"""On which prompts of tasks a dictionary was fine-tuned, as far as its file says: a test on them proves less."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from gossamer.dictionary.dictionary import Dictionary

# Where a record of training lists each time that the dictionary was fine-tuned.
FINETUNED = "finetuned"
# Hexadecimal digits that are kept of a text's SHA-256.
_DIGITS = 12


def finetunings(dictionary: Dictionary) -> list[dict[str, Any]]:
    """What a dictionary says of each time that it was fine-tuned."""
    training = dictionary.provenance.get("training")
    found = training.get(FINETUNED) if isinstance(training, Mapping) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def text_digest(text: str) -> str:
    """By what a dictionary's file names a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def seen_in_training(dictionaries: Iterable[Dictionary], prompts: Iterable[Iterable[str]]) -> int:
    """How many of `prompts` (each as its texts) have a text that one of the dictionaries was fine-tuned on."""
    said = [facts.get("prompts") for one in dictionaries for facts in finetunings(one)]
    known = {digest for one in said if isinstance(one, Mapping) for digest in one.get("texts_sha256", ())}
    return sum(any(text_digest(text) in known for text in texts) for texts in prompts) if known else 0
