"""Texts that say what latents stand for, beside a store's tables."""

import io
from collections.abc import Mapping
from typing import Any

from gossamer.errors import GossamerError
from gossamer.features.feature import Feature
from gossamer.files import needed
from gossamer.store.location import EXTRA, Location
from gossamer.store.manifest import EXPLANATIONS
from gossamer.store.parquet import Rows

_KINDS = {
    "site": "string",
    "latent": "int32",
    "text": "string",
    "method": "string",
    "scorer": "string",
    "score": "float64",
}


def exist(location: Location) -> bool:
    """Whether there are any."""
    return location.size(EXPLANATIONS) is not None


def add(
    location: Location, texts: Mapping[Feature, str], method: str, scores: Mapping[Feature, float], scorer: str
) -> None:
    """Write texts with their scores, and those of other latents that are there; the location is held by this process.

    Raises:
        GossamerError: those that are there are damaged, or writing failed.
    """
    found = {(row["site"], row["latent"]): row for row in read(location)}
    for (site, latent), text in texts.items():
        score = scores.get(Feature(site, latent))
        row = {"site": str(site), "latent": latent, "text": text, "method": method}
        found[str(site), latent] = {**row, "scorer": None if score is None else scorer, "score": score}
    table = Rows(_KINDS)
    for key in sorted(found):
        table.add(found[key])
    location.write(EXPLANATIONS, table.parquet(checksums=True))


def read(location: Location) -> list[dict[str, Any]]:
    """All of them, by their own checksums: they are no part of what was built, whose manifest has none of theirs.

    Raises:
        GossamerError: they are damaged.
    """
    if not exist(location):
        return []
    arrow, files = (needed(name, "a feature store", EXTRA) for name in ("pyarrow", "pyarrow.parquet"))
    try:
        content = io.BytesIO(location.read(EXPLANATIONS))
        return list(files.read_table(content, page_checksum_verification=True).to_pylist())
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise GossamerError(
            f"{location.path(EXPLANATIONS)}: damaged ({reason}); delete it and explain again, or restore it"
        ) from error
