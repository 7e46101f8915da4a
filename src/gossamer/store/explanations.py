"""Texts that say what latents stand for, beside a store's tables."""

import io
from collections.abc import Mapping
from typing import Any

from gossamer.errors import GossamerError
from gossamer.features.feature import Feature
from gossamer.files import needed
from gossamer.results import digest
from gossamer.store.location import EXTRA, Location
from gossamer.store.manifest import EXPLANATIONS
from gossamer.store.parquet import Rows

# Of the rows, in the file beside them.
_DIGEST = "gossamer.rows.sha256"
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
    # Rows of before have fewer columns.
    table, rows = Rows(_KINDS), [{name: found[key].get(name) for name in _KINDS} for key in sorted(found)]
    for row in rows:
        table.add(row)
    location.write(EXPLANATIONS, table.parquet(facts={_DIGEST: digest(rows)}))


def read(location: Location) -> list[dict[str, Any]]:
    """All of them, held against their own SHA-256: the manifest of what was built has none of theirs.

    Raises:
        GossamerError: they are damaged.
    """
    if not exist(location):
        return []
    arrow, files = (needed(name, "a feature store", EXTRA) for name in ("pyarrow", "pyarrow.parquet"))
    try:
        table = files.read_table(io.BytesIO(location.read(EXPLANATIONS)))
        rows: list[dict[str, Any]] = table.to_pylist()
        said = (table.schema.metadata or {}).get(_DIGEST.encode())
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise _damaged(location, " ".join(str(error).split())) from error
    # Files of before have none.
    if said is not None and said != digest(rows).encode():
        raise _damaged(location, "their SHA-256 differs")
    return rows


def _damaged(location: Location, reason: str) -> GossamerError:
    return GossamerError(
        f"{location.path(EXPLANATIONS)}: damaged ({reason}); delete it and explain again, or restore it"
    )
