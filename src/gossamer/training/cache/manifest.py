"""manifest.json: what a cache of activations holds, and the SHA-256 of every shard."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.results import Format, Older
from gossamer.results.difference import difference

FILE = "manifest.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Entry:
    """A shard that is complete.

    Attributes:
        tokens: activations in it, at every site.
        sha256: of its file.
        size: of its file, in bytes.
    """

    tokens: int
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a cache holds.

    Attributes:
        model: the model's name.
        sites: the sites with their widths.
        dtype: of the activations: float32, bfloat16 or float16.
        corpus: fingerprint of the corpus.
        seed: of the order of rows and of tokens.
        rows: rows of the corpus in a shard.
        shards: those that are complete, in order.
        weights: SHA-256 of the model's weights; None where they were not in memory, or an earlier version wrote.
        model_dtype: in which the model computed; None where an earlier version wrote, whose `weights` know it.
    """

    model: str
    sites: Mapping[str, int]
    dtype: str
    corpus: str
    seed: int
    rows: int
    shards: tuple[Entry, ...] = ()
    weights: str | None = None
    model_dtype: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype of a cache: expected one of {', '.join(DTYPES)}, found {self.dtype!r}")
        for site in self.sites:
            Site.parse(site)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.model} at {listed(self.sites)}"
        yield f"{plural(len(self.shards), 'shard')} of {self.dtype}"

    @property
    def settings(self) -> dict[str, Any]:
        """All that is known but the shards."""
        return {name: value for name, value in asdict(self).items() if name != "shards" and value is not None}

    def require(self, asked: "Manifest", folder: Path) -> None:
        """Refuse a cache that is not the one `asked` for; it may hold more sites.

        Raises:
            UsageError: naming what differs.
        """
        if self.weights is None and asked.weights is not None:
            raise UsageError(
                f"{folder}: written by an earlier version, which did not record the model's weights; delete the folder "
                "and write it again, or use another one"
            )
        if self.model_dtype is None:
            asked = replace(asked, model_dtype=None)
        stored = {**self.settings, "sites": {site: self.sites.get(site) for site in asked.sites}}
        if stored != asked.settings:
            words = difference(stored, asked.settings)
            raise UsageError(f"{folder}: holds other activations ({words}); use the same settings or another folder")

    def save(self, folder: Path) -> None:
        """Replace the folder's manifest."""
        FORMAT.save(folder / FILE, self)

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """The folder's manifest.

        Raises:
            UsageError: the folder has none.
            GossamerError: it is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            raise UsageError(f"{folder}: expected a cache of activations, found no {FILE}; write one first")
        return FORMAT.load(path)


FORMAT: Format[Manifest] = Format(
    "gossamer.activations",
    2,
    Manifest,
    "a manifest of activations",
    {"gossamer.activations.1": Older(lambda body: body, checksum=False)},
)


def shard_name(index: int) -> str:
    """The file of a shard."""
    return f"shard-{index:05d}.safetensors"
