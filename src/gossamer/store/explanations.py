"""Texts that say what latents stand for, beside a store's tables."""

import io
from collections.abc import Mapping

from gossamer.features.feature import Feature
from gossamer.files import needed
from gossamer.store.location import EXTRA, Location
from gossamer.store.manifest import EXPLANATIONS
from gossamer.store.parquet import Rows

_KINDS = {"site": "string", "latent": "int32", "text": "string", "method": "string"}


def exist(location: Location) -> bool:
    """Whether there are any."""
    return location.size(EXPLANATIONS) is not None


def add(location: Location, texts: Mapping[Feature, str], method: str) -> None:
    """Write texts, and those of other latents that are there. The location is held by this process."""
    found: dict[tuple[str, int], dict[str, object]] = {}
    if exist(location):
        files = needed("pyarrow.parquet", "a feature store", EXTRA)
        rows = files.read_table(io.BytesIO(location.read(EXPLANATIONS))).to_pylist()
        found = {(row["site"], row["latent"]): row for row in rows}
    for (site, latent), text in texts.items():
        found[str(site), latent] = {"site": str(site), "latent": latent, "text": text, "method": method}
    table = Rows(_KINDS)
    for key in sorted(found):
        table.add(found[key])
    location.write(EXPLANATIONS, table.parquet())
