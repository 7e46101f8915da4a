"""Stories with other names in them: a model knows many names that a small corpus hardly mentions.

A dictionary has no latents for what it never saw. Exchanging the names of a text for others of the same corpus makes
every name as frequent as any other and changes nothing else.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

import torch

from gossamer.model.language_model import LanguageModel
from gossamer.training.seeding import generator
from gossamer.training.text import encode

_WORD = re.compile(r"\b[A-Za-z]+\b")
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")
# A capital after a small letter or a comma: not because a sentence begins.
_INSIDE = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+\b")
_FEWEST = 10
_SMALL_SHARE = 0.1


def find_names(model: LanguageModel, texts: Sequence[str]) -> list[str]:
    """Words of `texts` that are probably names: capitalised inside sentences at least ten times, hardly ever written
    small, and one token of the model after a space. Languages that capitalise otherwise give nonsense."""
    inside: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in texts:
        inside.update(_INSIDE.findall(text))
        words.update(_WORD.findall(text))
    return sorted(
        word
        for word, count in inside.items()
        if count >= _FEWEST
        and words[word.lower()] <= _SMALL_SHARE * words[word]
        and len(encode(model, f" {word}")) == 1
    )


def exchanged(texts: Sequence[str], names: Collection[str], seed: int, copy: int) -> Iterator[str]:
    """Each text with its names exchanged, all mentions alike, for different ones drawn from `names`."""
    ordered, known = sorted(names), frozenset(names)
    draw = generator(seed, "names", copy)
    for text in texts:
        found = [word for word in dict.fromkeys(_CAPITALISED.findall(text)) if word in known]
        drawn = torch.randperm(len(ordered), generator=draw)[: len(found)].tolist()
        new = dict(zip(found, (ordered[i] for i in drawn), strict=True))
        yield _CAPITALISED.sub(partial(_renamed, new), text)


def _renamed(new: Mapping[str, str], match: re.Match[str]) -> str:
    return new.get(match[0], match[0])
