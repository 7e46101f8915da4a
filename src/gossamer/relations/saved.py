"""Relations with their files in a folder: counted once, and gone on with where counting was stopped."""

import contextlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gossamer.engine import Engine
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site
from gossamer.progress import announce
from gossamer.relations.blocks import BLOCK_ROWS
from gossamer.relations.counting import SitePair
from gossamer.relations.error_share import ErrorShare
from gossamer.relations.latents import LatentStream
from gossamer.relations.relate import ActiveAbove, count_settings, relate
from gossamer.relations.relation import Keep, Relation
from gossamer.relations.storage import load_relation, read_tensors, save_relation
from gossamer.results.record import versions
from gossamer.tensor_files import write_tensors

TAIL, ERROR_TAIL = ".relation.safetensors", ".error.safetensors"
_ERROR_SHARE = "gossamer.error_share.1"
# The folder of blocks, until the relations are saved.
BLOCKS = "blocks"


def pair_path(folder: str | Path, pair: SitePair, tail: str = TAIL) -> Path:
    """Where a folder has a pair's relation, or what stands beside it."""
    return Path(folder) / f"{pair.upstream}-{pair.downstream}{tail}"


def relate_in_folder(
    stream: LatentStream,
    pairs: Sequence[SitePair],
    folder: str | Path,
    *,
    activity: ActiveAbove | None = None,
    keep: Keep | None = None,
    null: bool = True,
    block_rows: int = BLOCK_ROWS,
    engine: Engine | None = None,
) -> dict[SitePair, Relation]:
    """Relate as :func:`relate` does and save each relation; what is there of the same request is not counted again.

    Counting that was stopped goes on behind the last complete block of rows, to the same files. Hold the folder with
    :func:`gossamer.results.folder_lock` meanwhile.

    Disk: that of the relations, and until they are saved that of `relate`'s folder.

    Raises:
        UsageError: what `relate` refuses, or the folder holds blocks of another request.
        GossamerError: what the engine raises, or writing failed; blocks that are complete stay.
    """
    keep, activity, blocks = keep or Keep(), activity or ActiveAbove(), Path(folder) / BLOCKS
    settings = {**count_settings(stream, pairs, activity, products=True, null=null), "block_rows": block_rows}
    if found := _saved(folder, pairs, keep, settings):
        announce(lambda: f"{folder}: relations of this request are there already and are not counted again")
    else:
        asked: Any = {"keep": keep, "null": null, "block_rows": block_rows, "engine": engine}
        counted = relate(stream, pairs, activity=activity, folder=blocks, **asked)
        provenance = {"settings": settings, "versions": versions()}
        found = {pair: replace(relation, provenance=provenance) for pair, relation in counted.items()}
        for pair, relation in found.items():
            save_relation(relation, pair_path(folder, pair))
    shutil.rmtree(blocks, ignore_errors=True)
    return found


def _saved(
    folder: str | Path, pairs: Sequence[SitePair], keep: Keep, settings: Mapping[str, Any]
) -> dict[SitePair, Relation]:
    """The relations of a request, if all of them are there."""
    # Files that are missing or damaged are made again.
    with contextlib.suppress(GossamerError):
        found = {pair: load_relation(pair_path(folder, pair)) for pair in pairs}
        if all(one.keep == keep and one.provenance.get("settings") == settings for one in found.values()):
            return found
    return {}


def save_error_share(share: ErrorShare, path: str | Path) -> Path:
    """Write what an error holds, atomically. Returns the path. Errors: those of :func:`save_relation`."""
    arrays = {one.name: getattr(share, one.name) for one in fields(ErrorShare)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in arrays.items()}
    write_tensors(Path(path), tensors, {"format": _ERROR_SHARE})
    return Path(path)


def load_error_share(path: str | Path) -> ErrorShare:
    """Read what :func:`save_error_share` wrote.

    Raises:
        UsageError: no such file, or another kind of file.
        GossamerError: it is damaged.
    """
    said, tensors = read_tensors(path, "error share")
    if said.get("format") != _ERROR_SHARE:
        raise UsageError(f"{path}: expected an error share (format {_ERROR_SHARE!r}), found {said.get('format')!r}")
    try:
        return ErrorShare(*(tensors[one.name].numpy() for one in fields(ErrorShare)))
    except KeyError as error:
        raise GossamerError(f"{path}: expected an error share, found damage (no {error}); relate again") from error


def load_folder(folder: str | Path) -> dict[SitePair, Relation]:
    """All relations that were saved in a folder, in the order of their sites.

    Raises:
        UsageError: there is none.
        GossamerError: one of them is damaged.
    """
    found = [load_relation(path) for path in Path(folder).glob(f"*{TAIL}")]
    if not found:
        raise UsageError(f"{folder}: relations expected, found none; make them with 'gossamer relate'")
    ranked = sorted(found, key=lambda one: [Site.parse(name.partition("@")[0]) for name in one.pair])
    return {one.pair: one for one in ranked}


def neighbours_of(pairs: Iterable[SitePair]) -> list[SitePair]:
    """Of pairs in the order of their sites, those from each dictionary to the next one that it was related to."""
    found: dict[str, SitePair] = {}
    for pair in pairs:
        if pair.upstream != pair.downstream:
            found.setdefault(pair.upstream, pair)
    return list(found.values())
