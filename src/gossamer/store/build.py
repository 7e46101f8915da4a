"""Write a feature store: shard by shard in one pass of the model over the corpus, then what the shards add up to."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gossamer.activations.stream import BATCH
from gossamer.dictionary.dictionary import Dictionary
from gossamer.engine import Engine, ThisProcess
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping
from gossamer.progress import begin
from gossamer.store.database import connect, entries_of_site
from gossamer.store.location import Location, locate
from gossamer.store.manifest import FILE, VOCABULARY, Shard, StoredFile, StoreManifest, StoreSettings, damaged_files
from gossamer.store.parquet import Rows
from gossamer.store.shards import shard_tables
from gossamer.store.source import StoreSource
from gossamer.store.summary import SiteSummary, neighbours_file, words_file


def build_store(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    texts: Sequence[str],
    url: str | Path,
    *,
    settings: StoreSettings | None = None,
    repair: bool = False,
    allow_other_model: bool = False,
    batch_size: int = BATCH,
    engine: Engine | None = None,
) -> StoreManifest:
    """Write what all latents of all dictionaries do on a corpus, or what is missing of it, to `url`.

    The model goes over the corpus once, for all dictionaries together. A store that was being written when the process
    was killed, at whatever moment, is gone on with, to the same bytes. Texts longer than the context become several
    rows (`manifest.split` counts them).

    Memory: 10 bytes a token of the corpus, and about 60 bytes an activation of one shard.

    Args:
        url: a local folder, or a URL that fsspec knows.
        repair: compare every file with its SHA-256 and write those anew that differ, each alone. A shard that comes out
            otherwise than it was (another machine, other versions) takes the old one's place, and statistics and
            examples are made anew.
        batch_size: most rows at once.
        engine: who computes the shards, which are written here; None: this process. Bytes are the same, if threads of
            torch are as many.

    Raises:
        UsageError: the texts, dictionaries or settings do not fit the model; the folder holds another store; another
            process writes there; too little room; pyarrow, duckdb or fsspec is not installed.
        NotFiniteError: an activation is not finite (the site is named).
        GossamerError: writing failed; the shards that are complete stay.
    """
    location, engine = locate(url), engine or ThisProcess()
    source = StoreSource.of(
        model,
        dictionaries,
        texts,
        settings or StoreSettings(),
        allow_other_model=allow_other_model,
        batch_size=batch_size,
    )
    asked = source.manifest()
    with location.lock():
        manifest = asked
        if location.size(FILE) is not None:
            manifest = StoreManifest.load(location)
            manifest.require(asked, location.url)
        if repair:
            manifest = _repaired(source, location, manifest, engine)
        manifest = _with_shards(source, location, manifest, engine)
        return _with_summary(source, location, manifest)


def _with_shards(source: StoreSource, location: Location, manifest: StoreManifest, engine: Engine) -> StoreManifest:
    """Write the shards that are missing; each is in the manifest as soon as its files are complete."""
    spans, first = source.spans(), len(manifest.shards)
    advance = begin("feature store", len(spans) - first)
    _require_room(location, manifest)
    for _, shard in _shards(source, location, spans, range(first, len(spans)), engine):
        manifest = replace(manifest, shards=(*manifest.shards, shard))
        manifest.save(location)
        advance(1, f"{shard.entries:,} activations")
        _require_room(location, manifest)
    return manifest


def _require_room(location: Location, manifest: StoreManifest) -> None:
    """For the shards that are missing, reckoned from those that are there."""
    if done := len(manifest.shards):
        written = sum(file.size for shard in manifest.shards for file in shard.files.values())
        location.require_space(written * (manifest.shard_count - done) // done, "the rest of the store")


def _shards(
    source: StoreSource, location: Location, spans: Sequence[slice], numbers: Sequence[int], engine: Engine
) -> Iterator[tuple[int, Shard]]:
    """Shards by number, each as soon as its files are complete."""
    parts = (source.part(spans[number]) for number in numbers)
    for number, (entries, tables) in zip(numbers, engine.map(shard_tables, parts, source.shared), strict=True):
        files = {f"{table}/{number:06d}.parquet": content for table, content in tables.items()}
        for name, content in files.items():
            location.write(name, content)
        span, stored = spans[number], {name: StoredFile.of(content) for name, content in files.items()}
        tokens = int(source.counted[span].sum())
        yield number, Shard(span.start, span.stop - span.start, tokens, entries, stored)


def _with_summary(source: StoreSource, location: Location, manifest: StoreManifest) -> StoreManifest:
    """Write the files that are made of the shards and are missing, site by site."""
    sites = [site for site in source.dictionaries if not set(_names(manifest, str(site))) <= set(manifest.summary)]
    advance = begin("statistics and examples", len(sites))
    for site in sites:
        with connect(location) as connection:
            batches = entries_of_site(connection, location, manifest, str(site))
            files = SiteSummary(source, site).add_all(batches).files()
        if source.settings.words:
            dictionary = source.dictionaries[site]
            files[f"words/{site}.parquet"] = words_file(source.model, dictionary, site, source.settings.words)
        if source.settings.neighbours:
            near = neighbours_file(source.dictionaries, site, source.settings.neighbours)
            files[f"neighbours/{site}.parquet"] = near
        manifest = _stored(location, manifest, files)
        advance(1, str(site))
    if VOCABULARY not in manifest.summary:
        rows = Rows({"token": "int32", "text": "string"})
        for token, text in source.vocabulary():
            rows.add({"token": token, "text": text})
        manifest = _stored(location, manifest, {VOCABULARY: rows.parquet()})
    return manifest


def _names(manifest: StoreManifest, site: str) -> list[str]:
    return [name for name in manifest.summary_names if name.endswith(f"/{site}.parquet")]


def _stored(location: Location, manifest: StoreManifest, files: dict[str, bytes]) -> StoreManifest:
    for name, content in files.items():
        location.write(name, content)
    stored = {name: StoredFile.of(content) for name, content in files.items()}
    manifest = replace(manifest, summary=dict(sorted({**manifest.summary, **stored}.items())))
    manifest.save(location)
    return manifest


def _repaired(source: StoreSource, location: Location, manifest: StoreManifest, engine: Engine) -> StoreManifest:
    """Write damaged shards anew, and take damaged files of the summary out of the manifest."""
    damaged = damaged_files(location, manifest)
    shards = list(manifest.shards)
    numbers = [number for number, shard in enumerate(shards) if damaged.keys() & shard.files.keys()]
    for number, shard in _shards(source, location, source.spans(), numbers, engine):
        shards[number] = shard
    summary = {name: file for name, file in manifest.summary.items() if name not in damaged}
    found = replace(manifest, shards=tuple(shards), summary=summary if tuple(shards) == manifest.shards else {})
    if found != manifest:
        found.save(location)
    if left := damaged_files(location, found, hashes=False):
        name, what = next(iter(left.items()))
        raise GossamerError(f"{location.path(name)}: written anew and damaged again ({what}); look at the disk")
    return found
