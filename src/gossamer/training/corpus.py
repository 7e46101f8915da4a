"""Texts as rows of tokens, in an order that depends on the seed alone."""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.errors import GossamerError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens
from gossamer.training.config import CorpusConfig
from gossamer.training.seeding import generator

# The end of a text becomes a row of its own only if it has this many tokens; shorter ends are dropped.
_SHORTEST = 8


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

    @classmethod
    def build(
        cls, model: LanguageModel, texts: Sequence[str], config: CorpusConfig, seed: int, extra: Sequence[str] = ()
    ) -> "Corpus":
        """Tokenise `texts` into rows; `extra` texts (samples of the model, say) are only learned from, never held out.

        Raises:
            UsageError: no text, too little text for one row to learn from and one held out, or rows are to begin with
                a BOS that the tokenizer does not have.
        """
        order = torch.randperm(len(texts), generator=generator(seed, "texts")).tolist()
        aside = max(1, round(config.held_out * len(texts)))
        held_out = _rows(model, [texts[i] for i in order[:aside]], config, seed, "held out")
        training = _rows(model, [*(texts[i] for i in order[aside:]), *extra], config, seed, "training")
        if not len(training) or not len(held_out):
            raise UsageError(
                f"corpus of {len(texts)} texts: expected at least one row of {_SHORTEST} tokens to learn from and "
                f"one to hold out, found {len(training)} and {len(held_out)}; give more text"
            )
        return cls(training, held_out, _fingerprint(training, held_out))

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


def read_texts(path: str | Path) -> list[str]:
    """Texts of a file: `{"text": …}` a line where it ends in .jsonl, else one text a paragraph.

    Raises:
        UsageError: no such file, or no text in it.
        GossamerError: a line is not such an object, or the file is not UTF-8.
    """
    source = Path(path)
    if not source.is_file():
        raise UsageError(f"{source}: no such file; give a .jsonl file with a text a line, or plain text")
    try:
        content = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GossamerError(f"{source}: expected UTF-8 text, found other bytes ({error}); convert the file") from error
    if source.suffix == ".jsonl":
        texts = [_text(line, source, number) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    else:
        texts = content.split("\n\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UsageError(f"{source}: expected text, found none; give a file with text in it")
    return texts


def _text(line: str, source: Path, number: int) -> str:
    try:
        text = json.loads(line)["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise GossamerError(f'{source}, line {number}: expected {{"text": …}}, found {line[:60]!r}') from error
    if not isinstance(text, str):
        raise GossamerError(f"{source}, line {number}: expected a text, found {text!r}")
    return text


def encode(model: LanguageModel, text: str) -> list[int]:
    """Token ids of `text` without special tokens."""
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def bos_id(model: LanguageModel) -> int | None:
    """The id of the tokenizer's BOS, if it has one."""
    found = getattr(model.tokenizer, "bos_token_id", None)
    return None if found is None else int(found)


def _rows(model: LanguageModel, texts: Sequence[str], config: CorpusConfig, seed: int, part: str) -> Tokens:
    bos = bos_id(model)
    if config.bos > 0 and bos is None:
        raise UsageError(f"rows are to begin with BOS (bos={config.bos}), but {model.name} has none; set bos to 0")
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
