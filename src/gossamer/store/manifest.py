"""store.json: what a feature store holds, what it was made of, and the SHA-256 of every file."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.activations.token_mask import TokenMask
from gossamer.display import listed, plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.features.examples import ExampleSettings
from gossamer.files import parse_json
from gossamer.results import Format, Older
from gossamer.results.difference import difference
from gossamer.results.values import to_json
from gossamer.store.location import Location

FILE = "store.json"
VOCABULARY = "vocabulary.parquet"
EXPLANATIONS = "explanations.parquet"


@dataclass(frozen=True)
class StoreSettings:
    """How a store is written.

    Attributes:
        context: tokens of a row, BOS included; a longer text becomes several rows. None: 128, or fewer where a
            dictionary learned from rows of fewer or the model reads fewer.
        bos: whether rows begin with BOS. None: as the dictionaries learned, else as the tokenizer does.
        mask: which tokens count. None: those on which all of the dictionaries learned. BOS is no token of a text and
            cannot count.
        threshold: activations up to this one are not kept, and count nowhere; 0 keeps all that are active.
        shard_tokens: tokens after which a shard is closed; a document is in one shard. Up to 65,536 tokens are sorted
            fastest.
        examples: which examples of each latent are kept; `sample` plays no part, because groups are drawn from all
            activations.
        words: logit-lens words each way; 0 for none.
        neighbours: latents with the nearest decoder rows; 0 for none. Every latent's row is compared with all others
            that write into the same space.
    """

    context: int | None = None
    bos: bool | None = None
    mask: TokenMask | None = None
    threshold: float = 0.0
    shard_tokens: int = 50_000
    examples: ExampleSettings = field(default_factory=lambda: ExampleSettings(strata=5))
    words: int = 8
    neighbours: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < float("inf"):
            raise UsageError(f"store: a threshold of at least 0 expected, found {self.threshold}")
        if self.shard_tokens < 1 or self.words < 0 or self.neighbours < 0:
            raise UsageError(
                f"store: shard_tokens >= 1, words >= 0 and neighbours >= 0 expected, found {self.shard_tokens}, "
                f"{self.words} and {self.neighbours}"
            )
        if self.mask is not None and self.mask.bos:
            raise UsageError("store: BOS is no token of a text and has no place in one; leave it out of the mask")


@dataclass(frozen=True)
class StoredFile:
    """A file that is complete: SHA-256 and bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, content: bytes) -> "StoredFile":
        """What is known of a file with this content."""
        return cls(hashlib.sha256(content).hexdigest(), len(content))

    @classmethod
    def at(cls, path: Path) -> "StoredFile":
        """What is known of the file that lies there."""
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@dataclass(frozen=True)
class Shard:
    """The activations of some consecutive rows: the same entries in two orders, and the tokens they stand at.

    Attributes:
        first_row, rows: of the corpus.
        tokens: those that count.
        entries: activations of all sites.
        files: by name.
    """

    first_row: int
    rows: int
    tokens: int
    entries: int
    files: Mapping[str, StoredFile]


@dataclass(frozen=True)
class StoredDictionary:
    """A dictionary whose latents a store holds.

    Attributes:
        n_latents: their number.
        architecture: such as topk.
        sha256: of its parameters and conventions.
        link: address of its page on Neuronpedia, if it has one.
        weights: SHA-256 of its parameters alone, as circuits record it; None in stores of before.
    """

    n_latents: int
    architecture: str
    sha256: str
    link: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class StoreManifest:
    """What a store holds.

    Attributes:
        model, weights, model_dtype: the model's title, the SHA-256 of its weights (None where they were not in memory),
            and the type in which it computed.
        tokenizer: SHA-256 of the tokenizer's vocabulary.
        dictionaries: by site, in the order in which the model computes them.
        corpus: SHA-256 of all rows and of which of their tokens count.
        documents: texts given.
        empty: texts without a token.
        split: texts longer than the context, which became several rows.
        rows, shard_count: of the whole corpus.
        settings: all of them, those decided by the dictionaries and the model too.
        shards: those that are complete, in order.
        summary: files of statistics, examples, words and vocabulary that are complete.
    """

    model: str
    weights: str | None
    model_dtype: str
    tokenizer: str
    dictionaries: Mapping[str, StoredDictionary]
    corpus: str
    documents: int
    empty: int
    split: int
    rows: int
    shard_count: int
    settings: StoreSettings
    shards: tuple[Shard, ...] = ()
    summary: Mapping[str, StoredFile] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.model} at {listed(self.dictionaries)}"
        yield f"{plural(self.tokens, 'token')}, {plural(self.entries, 'activation')}"
        yield plural(len(self.shards), "shard")

    @property
    def tokens(self) -> int:
        """Tokens that count."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def entries(self) -> int:
        """Activations, of all sites."""
        return sum(shard.entries for shard in self.shards)

    @property
    def files(self) -> dict[str, StoredFile]:
        """Every file that is complete, by name."""
        found = {name: file for shard in self.shards for name, file in shard.files.items()}
        return {**found, **self.summary}

    @property
    def summary_names(self) -> list[str]:
        """The files of a complete summary."""
        optional = [name for name in ("words", "neighbours") if getattr(self.settings, name)]
        tables = ["statistics", "examples", *optional]
        return [VOCABULARY, *(f"{table}/{site}.parquet" for site in self.dictionaries for table in tables)]

    @property
    def complete(self) -> bool:
        """Whether nothing remains to be written."""
        return len(self.shards) == self.shard_count and set(self.summary_names) <= set(self.summary)

    def require(self, asked: "StoreManifest", url: str) -> None:
        """Refuse a store that is not the one `asked` for.

        Raises:
            UsageError: naming what differs: the model, a dictionary, the tokenizer, the texts or a setting.
        """
        ours, theirs = self._identity(), asked._identity()
        if ours != theirs:
            raise UsageError(
                f"{url}: holds another store ({difference(ours, theirs)}); ask for the same, or use another folder"
            )

    def _identity(self) -> dict[str, Any]:
        """What makes it this store and no other, as JSON; hashes of dictionaries cover those of their weights."""
        found = {name: value for name, value in to_json(self).items() if name not in ("shards", "summary")}
        for one in found["dictionaries"].values():
            del one["weights"]
        return found

    def save(self, location: Location) -> None:
        """Replace the folder's manifest."""
        location.write(FILE, (json.dumps(FORMAT.encode(self), indent=1, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, location: Location) -> "StoreManifest":
        """The folder's manifest.

        Raises:
            UsageError: the folder has none, or one of a later version.
            GossamerError: it is damaged.
        """
        if location.size(FILE) is None:
            raise UsageError(
                f"{location.url}: a feature store expected, found no {FILE}; write one with 'gossamer store build'"
            )
        path = location.path(FILE)
        try:
            text = location.read(FILE).decode()
        except UnicodeDecodeError as error:
            raise GossamerError(f"{path}: expected UTF-8, found other bytes ({error}); restore the file") from error
        return FORMAT.decode(parse_json(text, path), path)


def _without_neighbours(body: dict[str, Any]) -> dict[str, Any]:
    """Stores of version 1 have no table of neighbours."""
    return {**body, "settings": {**body["settings"], "neighbours": 0}}


FORMAT: Format[StoreManifest] = Format(
    "gossamer.store",
    2,
    StoreManifest,
    "a manifest of a feature store",
    older={"gossamer.store.1": Older(_without_neighbours)},
)


def damaged_files(location: Location, manifest: StoreManifest, *, hashes: bool = True) -> dict[str, str]:
    """Files that are not as they were written, with what is wrong with each.

    Args:
        hashes: compare every file with its SHA-256, which reads all of them; else only their sizes.
    """
    found: dict[str, str] = {}
    for name, file in manifest.files.items():
        size = location.size(name)
        if size != file.size:
            found[name] = "no such file" if size is None else f"{size} bytes instead of {file.size}"
        elif hashes and StoredFile.of(location.read(name)) != file:
            found[name] = "its SHA-256 differs from the manifest's"
    return found
