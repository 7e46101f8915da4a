"""Dictionaries on the Hugging Face hub: `hub:owner/repo/path`, optionally `@revision`."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from gossamer.dictionary.formats.facts import Origin
from gossamer.errors import GossamerError, UsageError

_REFERENCE = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?P<path>(?:/[\w.=+-]+)*)(?:@(?P<revision>[\w./-]+))?")


def is_reference(source: str | Path) -> bool:
    """Whether `source` names something on the hub."""
    return isinstance(source, str) and source.startswith("hub:")


def fetch(reference: str, names: list[str]) -> tuple[Path, Origin]:
    """Download those of `names` that exist under the reference's path; returns the local folder and where it came from.

    Raises:
        UsageError: the reference is malformed.
        GossamerError: the hub refused, or cannot be reached and the files are not cached.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None or ".." in reference.removeprefix("hub:").split("/"):
        raise UsageError(f"{reference}: expected hub:owner/repo/path or hub:owner/repo/path@revision")
    path = match["path"].strip("/")
    patterns = [f"{path}/{name}" if path else name for name in names]
    try:
        root = Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())
        raise GossamerError(f"{reference}: could not be fetched ({reason}); check the name and the network") from error
    # The cache keeps a snapshot in a folder named after its commit.
    return root / path, Origin(reference.split("@")[0], revision=root.name)
