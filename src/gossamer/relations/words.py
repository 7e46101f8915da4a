"""The words that latents fire on: what a gate's inputs or a community are called in tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from gossamer.relations.latents import LatentBatch, ModelLatents
from gossamer.results.document import Format

# Where a study has them.
WORDS = "words.json"


@dataclass(frozen=True)
class _Words:
    """Of each dictionary, the words of every latent."""

    words: Mapping[str, tuple[tuple[str, ...], ...]]


_FORMAT: Format[_Words] = Format("gossamer.latent_words", 1, _Words, "words of latents")


def fired_on(stream: ModelLatents, *, count: int = 3) -> dict[str, list[tuple[str, ...]]]:
    """For each dictionary and latent, the tokens of the vocabulary at which its activation adds up to most, the largest
    first; fewer where it fires on fewer, none where it never does.

    One pass. Memory: 12 bytes for each latent and word that came together.

    Args:
        count: words of a latent.
    """
    model = next(iter(stream.sources.values())).model
    shapes = {name: (width, model.d_vocab) for name, width in stream.widths.items()}
    sums: dict[str, Any] = {name: sparse.csr_matrix(shape) for name, shape in shapes.items()}

    def add(batch: LatentBatch) -> None:
        words = stream.token_ids(batch)
        for name, latents in batch.latents.items():
            own = latents.tocoo()
            sums[name] = sums[name] + sparse.csr_matrix((own.data, (own.col, words[own.row])), shape=shapes[name])

    stream.map(add)
    found = {}
    for name, total in sums.items():
        total.sort_indices()
        found[name] = [
            tuple(model.word(int(word)) for word in _largest(total, latent, count)) for latent in range(total.shape[0])
        ]
    return found


def _largest(total: Any, latent: int, count: int) -> Any:
    own = slice(total.indptr[latent], total.indptr[latent + 1])
    return total.indices[own][np.argsort(-total.data[own], kind="stable")[:count]]


def write_words(words: Mapping[str, Sequence[Sequence[str]]], path: str | Path) -> Path:
    """Write the words of all latents of some dictionaries, atomically. Returns the path."""
    return _FORMAT.save(path, _Words({name: tuple(map(tuple, own)) for name, own in words.items()}))


def read_words(path: str | Path) -> dict[str, list[tuple[str, ...]]]:
    """Read what :func:`write_words` wrote.

    Raises:
        UsageError: no such file, or another kind of file.
        GossamerError: it is damaged.
    """
    return {name: list(own) for name, own in _FORMAT.load(path).words.items()}
