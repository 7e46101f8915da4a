"""Texts that say what latents stand for, beside a store's tables."""

import io
from collections.abc import Mapping

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

    Files of before scores are read as well.
    """
    found: dict[tuple[str, int], dict[str, object]] = {}
    if exist(location):
        files = needed("pyarrow.parquet", "a feature store", EXTRA)
        rows = files.read_table(io.BytesIO(location.read(EXPLANATIONS))).to_pylist()
        found = {(row["site"], row["latent"]): row for row in rows}
    for (site, latent), text in texts.items():
        score = scores.get(Feature(site, latent))
        row = {"site": str(site), "latent": latent, "text": text, "method": method}
        found[str(site), latent] = {**row, "scorer": None if score is None else scorer, "score": score}
    table = Rows(_KINDS)
    for key in sorted(found):
        table.add(found[key])
    location.write(EXPLANATIONS, table.parquet())
