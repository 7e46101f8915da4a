"""manifest.json: what a cache of activations holds, and the SHA-256 of every shard."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gossamer.display import listed, plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json, write_json
from gossamer.model.site import Site
from gossamer.training.checkpoint import difference

FILE = "manifest.json"
FORMAT = "gossamer.activations.1"
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
    """

    model: str
    sites: Mapping[str, int]
    dtype: str
    corpus: str
    seed: int
    rows: int
    shards: tuple[Entry, ...] = ()
    weights: str | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.model} at {listed(self.sites)}"
        yield f"{plural(len(self.shards), 'shard')} of {self.dtype}"

    @property
    def settings(self) -> dict[str, Any]:
        """All that is known but the shards."""
        left_out = {"shards"} if self.weights is not None else {"shards", "weights"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

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
        stored = {**self.settings, "sites": {site: self.sites.get(site) for site in asked.sites}}
        if stored != asked.settings:
            words = difference(stored, asked.settings)
            raise UsageError(f"{folder}: holds other activations ({words}); use the same settings or another folder")

    def save(self, folder: Path) -> None:
        """Replace the folder's manifest."""
        write_json(folder / FILE, {"format": FORMAT, **asdict(self)})

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
        found = read_json(path)
        try:
            if found.pop("format") != FORMAT or found["dtype"] not in DTYPES:
                raise ValueError(f"expected format {FORMAT}")
            shards = tuple(Entry(int(one["tokens"]), str(one["sha256"]), int(one["size"])) for one in found["shards"])
            widths = {str(Site.parse(site)): int(width) for site, width in found["sites"].items()}
            return cls(**{**found, "sites": widths, "shards": shards})
        except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
            raise GossamerError(
                f"{path}: expected a manifest of activations, found damage ({error}); write the cache again"
            ) from error


def shard_name(index: int) -> str:
    """The file of a shard."""
    return f"shard-{index:05d}.safetensors"
