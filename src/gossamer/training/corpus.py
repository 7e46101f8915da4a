"""Texts as rows of tokens, in an order that depends on the seed alone."""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens
from gossamer.training.config import CorpusConfig
from gossamer.training.seeding import generator
from gossamer.training.text import bos_id, encode

# The end of a text becomes a row of its own only if it has this many tokens; shorter ends are dropped.
_SHORTEST = 8
# Tokens on which claims are measured.
_MEASURED = 5_000


@dataclass(frozen=True)
class Corpus:
    """Rows of tokens, padded on the right. Memory: 9 bytes a token.

    Attributes:
        training: rows to learn from, already shuffled.
        held_out: rows of texts that are not among them.
        fingerprint: hash of all rows: two corpora with the same one are the same.
    """

    training: Tokens
    held_out: Tokens
    fingerprint: str

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.training), 'row')} to learn from, {len(self.held_out)} held out"
        yield f"fingerprint {self.fingerprint[:12]}"

    @classmethod
    def build(
        cls, model: LanguageModel, training: Sequence[str], held_out: Sequence[str], config: CorpusConfig, seed: int
    ) -> "Corpus":
        """Tokenise texts into rows; the settings say how long, and how many begin with BOS.

        Raises:
            UsageError: too little text for one row to learn from and one held out, or rows are to begin with a BOS that
                the tokenizer does not have.
        """
        if bos_id(model) is None and config.bos > 0:
            raise UsageError(f"rows are to begin with BOS (bos={config.bos}), but {model.name} has none; set bos to 0")
        learned = _rows(model, training, config, seed, "training")
        aside = _rows(model, held_out, config, seed, "held out")
        if not len(learned) or not len(aside):
            raise UsageError(
                f"corpus of {len(training)} and {len(held_out)} texts: expected at least one row of {_SHORTEST} tokens "
                f"to learn from and one to hold out, found {len(learned)} and {len(aside)}; give more text"
            )
        return cls(learned, aside, _fingerprint(learned, aside))

    @property
    def measured(self) -> Tokens:
        """The rows that claims are measured on: the first held out, of 5,000 tokens. They are in random order.

        The error of a mean over so many is small beside what a training leaves to chance, and with a wide vocabulary
        more would take longer than the training.
        """
        before = self.held_out.lengths.cumsum(dim=0) - self.held_out.lengths
        return self.held_out[slice(0, int((before < _MEASURED).sum()))]

    def rows(self, start: int, count: int, seed: int) -> Tokens:
        """Rows `start` to `start + count` of the endless sequence of epochs, each a new permutation of all rows."""
        found = [self._row(index, seed) for index in range(start, start + count)]
        return self.training[torch.tensor(found)]

    def _row(self, index: int, seed: int) -> int:
        epoch, place = divmod(index, len(self.training))
        return _permutation(len(self.training), seed, epoch)[place]


@functools.lru_cache(maxsize=2)
def _permutation(length: int, seed: int, epoch: int) -> list[int]:
    return torch.randperm(length, generator=generator(seed, "epoch", epoch)).tolist()


def split_texts(texts: Sequence[str], config: CorpusConfig, seed: int) -> tuple[list[str], list[str]]:
    """Texts to learn from and texts held out (at least one, if there are two)."""
    order = torch.randperm(len(texts), generator=generator(seed, "texts")).tolist()
    aside = max(1, round(config.held_out * len(texts)))
    return [texts[i] for i in order[aside:]], [texts[i] for i in order[:aside]]


def _rows(model: LanguageModel, texts: Sequence[str], config: CorpusConfig, seed: int, part: str) -> Tokens:
    bos = bos_id(model)
    draw = generator(seed, "bos", part)
    rows = [row for text in texts for row in _cut(encode(model, text), bos, config, draw)]
    ids = torch.zeros(len(rows), config.context, dtype=torch.long)
    mask = torch.zeros(len(rows), config.context, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    order = torch.randperm(len(rows), generator=generator(seed, "rows", part))
    return Tokens(ids[order], mask[order])


def _cut(ids: list[int], bos: int | None, config: CorpusConfig, draw: torch.Generator) -> Iterator[list[int]]:
    """Consecutive rows of one text, each with or without BOS by chance."""
    start = 0
    while len(ids) - start >= _SHORTEST:
        begins = bos is not None and torch.rand((), generator=draw).item() < config.bos
        first: list[int] = [bos] if begins and bos is not None else []
        piece = ids[start : start + config.context - len(first)]
        start += len(piece)
        yield first + piece


def _fingerprint(*parts: Tokens) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_bytes(part.ids * part.mask))
        digest.update(_bytes(part.mask.long()))
    return digest.hexdigest()


def _bytes(values: Int[Tensor, "rows context"]) -> bytes:
    return values.numpy().tobytes()
