"""Relations with their files in a folder: counted once, and gone on with where counting was stopped."""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gossamer.engine import Engine
from gossamer.errors import GossamerError
from gossamer.progress import announce
from gossamer.relations.blocks import BLOCK_ROWS
from gossamer.relations.counting import SitePair
from gossamer.relations.latents import LatentStream
from gossamer.relations.relate import ActiveAbove, count_settings, relate
from gossamer.relations.relation import Keep, Relation
from gossamer.relations.storage import load_relation, save_relation
from gossamer.results.record import versions

TAIL = ".relation.safetensors"
# The folder of blocks, until the relations are saved.
BLOCKS = "blocks"


def pair_path(folder: str | Path, pair: SitePair) -> Path:
    """Where a folder has a pair's relation."""
    return Path(folder) / f"{pair.upstream}-{pair.downstream}{TAIL}"


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
        options = {"keep": keep, "null": null, "block_rows": block_rows, "engine": engine}
        counted = relate(stream, pairs, activity=activity, folder=blocks, **options)
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
