"""Texts as rows of tokens that know their documents, in an order that depends on the seed alone."""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.activations.text import bos_id, encode
from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.seeding import generator
from gossamer.tokens import Tokens

# The end of a text becomes a row of its own only if it has this many tokens; shorter ends are dropped.
_SHORTEST = 8
# Tokens on which claims are measured.
MEASURED_TOKENS = 5_000


@dataclass(frozen=True)
class RowConfig:
    """How texts become rows.

    Attributes:
        context: tokens of a row, BOS included; a longer text becomes several rows.
        bos: share of the rows that begin with BOS, 0 to 1.
        held_out: share of the texts kept aside for measuring.
        mask: which of the tokens count: the others are read by the model, but nothing is learned from them or measured
            on them.
    """

    context: int = 64
    bos: float = 0.5
    held_out: float = 0.02
    mask: TokenMask = DEFAULT_MASK

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("context", self.context >= 2, "of at least 2 tokens"),
            ("bos", 0 <= self.bos <= 1, "between 0 and 1"),
            ("held_out", 0 < self.held_out < 1, "between 0 and 1"),
        ):
            if not fits:
                raise UsageError(f"rows of text: expected {name} {expected}, found {getattr(self, name)}")


@dataclass(frozen=True)
class DocumentRows(Tokens):
    """Rows of tokens, padded on the right, each a piece of one document. Memory: 9 bytes a token and 17 a row.

    Attributes:
        documents: number of the text that each row is from, in the order in which texts were given.
        starts: where in its document each row's piece begins, in tokens.
        with_bos: whether a BOS that is no part of the document stands before the piece.
    """

    documents: Int[Tensor, "batch"]
    starts: Int[Tensor, "batch"]
    with_bos: Bool[Tensor, "batch"]

    __repr__ = short_repr

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        texts: Sequence[str],
        config: RowConfig,
        draw: torch.Generator | None = None,
        *,
        shortest: int = _SHORTEST,
    ) -> "DocumentRows":
        """The rows of texts, in order.

        Args:
            draw: what decides which rows begin with BOS; by default all the same for all calls.
            shortest: a text's end of fewer tokens is dropped.

        Raises:
            UsageError: rows are to begin with a BOS that the tokenizer does not have.
        """
        if (bos := bos_id(model)) is None and config.bos > 0:
            raise UsageError(f"rows are to begin with BOS (bos={config.bos}), but {model.name} has none; set bos to 0")
        draw = draw or generator(0, "bos")
        found = [
            (row, document, start, begins)
            for document, text in enumerate(texts)
            for row, start, begins in _cut(encode(model, text), bos, config, draw, shortest)
        ]
        ids = torch.zeros(len(found), config.context, dtype=torch.long)
        mask = torch.zeros(len(found), config.context, dtype=torch.bool)
        for i, (row, *_) in enumerate(found):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        documents, starts, begins = (torch.tensor([one[part] for one in found]) for part in (1, 2, 3))
        return cls(ids, mask, documents.long(), starts.long(), begins.bool())

    def __getitem__(self, rows: slice | Int[Tensor, "rows"]) -> "DocumentRows":
        own = (self.ids, self.mask, self.documents, self.starts, self.with_bos)
        return DocumentRows(*(part[rows] for part in own))

    def cut(self, length: int) -> "DocumentRows":
        """The first `length` positions of every row."""
        return replace(self, ids=self.ids[:, :length], mask=self.mask[:, :length])

    def to(self, device: torch.device | str) -> "DocumentRows":
        """The same rows on `device`."""
        own = (self.ids, self.mask, self.documents, self.starts, self.with_bos)
        return DocumentRows(*(part.to(device) for part in own))

    @property
    def positions(self) -> Int[Tensor, "batch pos"]:
        """Where in its document each token stands; -1 at padding and at a BOS that is no part of it."""
        place = self.mask.cumsum(dim=1) - 1 - self.with_bos[:, None].long()
        return torch.where(self.mask & (place >= 0), place + self.starts[:, None], -1)

    def document(self, number: int) -> Int[Tensor, "tokens"]:
        """The tokens of one document in their order, as far as they are in these rows."""
        own = self[(self.documents == number).nonzero()[:, 0]]
        positions = own.positions
        inside = positions >= 0
        return own.ids[inside][positions[inside].argsort()]


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from and texts held out, as rows. Memory: that of the rows.

    Attributes:
        training: rows to learn from, already shuffled.
        held_out: rows of texts that are not among them, shuffled.
        fingerprint: hash of all rows and of the mask: two corpora with the same one are the same.
        mask: which tokens count.
    """

    training: DocumentRows
    held_out: DocumentRows
    fingerprint: str
    mask: TokenMask = DEFAULT_MASK

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.training), 'row')} to learn from, {len(self.held_out)} held out"
        yield f"fingerprint {self.fingerprint[:12]}"

    @classmethod
    def build(
        cls, model: LanguageModel, training: Sequence[str], held_out: Sequence[str], config: RowConfig, seed: int
    ) -> "Corpus":
        """Tokenise texts into rows; the settings say how long, and how many begin with BOS.

        Raises:
            UsageError: too little text for one row to learn from and one held out, or rows are to begin with a BOS that
                the tokenizer does not have.
        """
        learned = _shuffled(model, training, config, seed, "training")
        aside = _shuffled(model, held_out, config, seed, "held out")
        if not len(learned) or not len(aside):
            raise UsageError(
                f"corpus of {len(training)} and {len(held_out)} texts: expected at least one row of {_SHORTEST} tokens "
                f"to learn from and one to hold out, found {len(learned)} and {len(aside)}; give more text"
            )
        return cls(learned, aside, _fingerprint(config.mask, learned, aside), config.mask)

    @property
    def measured(self) -> DocumentRows:
        """The rows that claims are measured on: the first held out, of 5,000 tokens. They are in random order.

        The error of a mean over so many is small beside what a training leaves to chance, and with a wide vocabulary
        more would take longer than the training.
        """
        before = self.held_out.lengths.cumsum(dim=0) - self.held_out.lengths
        return self.held_out[slice(0, int((before < MEASURED_TOKENS).sum()))]

    def rows(self, start: int, count: int, seed: int) -> DocumentRows:
        """Rows `start` to `start + count` of the endless sequence of epochs, each a new permutation of all rows."""
        found = [self._row(index, seed) for index in range(start, start + count)]
        return self.training[torch.tensor(found)]

    def _row(self, index: int, seed: int) -> int:
        epoch, place = divmod(index, len(self.training))
        return _permutation(len(self.training), seed, epoch)[place]


@functools.lru_cache(maxsize=2)
def _permutation(length: int, seed: int, epoch: int) -> list[int]:
    return torch.randperm(length, generator=generator(seed, "epoch", epoch)).tolist()


def split_texts(texts: Sequence[str], config: RowConfig, seed: int) -> tuple[list[str], list[str]]:
    """Texts to learn from and texts held out (at least one, if there are two)."""
    order = torch.randperm(len(texts), generator=generator(seed, "texts")).tolist()
    aside = max(1, round(config.held_out * len(texts)))
    return [texts[i] for i in order[aside:]], [texts[i] for i in order[:aside]]


def _shuffled(model: LanguageModel, texts: Sequence[str], config: RowConfig, seed: int, part: str) -> DocumentRows:
    rows = DocumentRows.of(model, texts, config, generator(seed, "bos", part))
    return rows[torch.randperm(len(rows), generator=generator(seed, "rows", part))]


def _cut(
    ids: list[int], bos: int | None, config: RowConfig, draw: torch.Generator, shortest: int
) -> Iterator[tuple[list[int], int, bool]]:
    """Consecutive rows of one text, each with or without BOS by chance; where its piece starts, and whether with."""
    start = 0
    while len(ids) - start >= shortest:
        begins = bos is not None and torch.rand((), generator=draw).item() < config.bos
        first: list[int] = [bos] if begins and bos is not None else []
        piece = ids[start : start + config.context - len(first)]
        yield first + piece, start, begins
        start += len(piece)


def _fingerprint(mask: TokenMask, *parts: Tokens) -> str:
    digest = hashlib.sha256()
    # Nothing for the default: that is what the fingerprints of earlier versions were made of.
    if mask.facts:
        digest.update(json.dumps(mask.facts, sort_keys=True).encode())
    for part in parts:
        digest.update(_bytes(part.ids * part.mask))
        digest.update(_bytes(part.mask.long()))
    return digest.hexdigest()


def _bytes(values: Int[Tensor, "rows context"]) -> bytes:
    return values.numpy().tobytes()
