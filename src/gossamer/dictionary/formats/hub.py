"""Dictionaries on the Hugging Face hub: `hub:owner/repo/path`, optionally `@revision`, or a name people know."""

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from gossamer.dictionary.formats import releases
from gossamer.dictionary.formats.facts import Origin
from gossamer.errors import GossamerError, UsageError

_REFERENCE = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?P<path>(?:/[\w.:=+-]+)*)(?:@(?P<revision>[\w./-]+))?")

WEIGHTS_SUFFIXES = (".safetensors", ".npz", ".pt")


def is_reference(source: str | Path) -> bool:
    """Whether `source` names something on the hub."""
    return isinstance(source, str) and (source.startswith("hub:") or releases.is_release(source))


def fetch(reference: str, names: Callable[[str | None], list[str]]) -> tuple[Path, Origin]:
    """Download what a reference to a folder or a weights file means; returns the local path and where it came from.

    Args:
        reference: `hub:owner/repo/path`, optionally `@revision`, or a name as :mod:`.releases` has them.
        names: the files to fetch, relative to the folder, given the path of a weights file, or None for a folder's.

    Raises:
        UsageError: the reference is malformed, or a name is not known.
        GossamerError: the hub refused, or cannot be reached and the files are not cached.
    """
    if releases.is_release(reference):
        reference = releases.hub_reference(reference)
    match = _REFERENCE.fullmatch(reference)
    if match is None or ".." in reference.removeprefix("hub:").split("/"):
        raise UsageError(f"{reference}: expected hub:owner/repo/path or hub:owner/repo/path@revision")
    path = PurePosixPath(match["path"].strip("/"))
    file = str(path) if path.suffix in WEIGHTS_SUFFIXES else None
    folder = path if file is None else path.parent
    wanted = [os.path.normpath(folder / name) for name in names(file)] + ([] if file is None else [file])
    # What lies outside the repository is nobody's configuration.
    patterns = sorted({name for name in wanted if not name.startswith("..")})
    try:
        root = Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())
        raise GossamerError(f"{reference}: could not be fetched ({reason}); check the name and the network") from error
    # The cache keeps a snapshot in a folder named after its commit.
    return root / path, Origin(reference.split("@")[0], revision=root.name)
