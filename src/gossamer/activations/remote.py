"""Texts that lie elsewhere: a file of a data set on the hub, or the first rows of one as they stream in."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from gossamer.errors import GossamerError, UsageError
from gossamer.files import needed

FILE, STREAM = "hub:", "datasets:"
# Rows of a stream where nothing says how many: enough to train a small dictionary, minutes to fetch.
ROWS = 20_000
_FILE = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./=+-]+)(?:@(?P<revision>[\w./-]+))?")
_STREAM = re.compile(
    r"datasets:(?P<name>[^:@#]+)(?::(?P<split>[\w.+-]+))?(?::(?P<config>[\w.+-]+))?(?:@(?P<revision>[\w./-]+))?"
    r"(?:#(?P<rows>[1-9]\d{0,8}))?"
)


def is_remote(source: str | Path) -> bool:
    """Whether `source` is one of the two rather than a path."""
    return str(source).startswith((FILE, STREAM))


def fetched_file(reference: str) -> Path:
    """A data set's file, `hub:owner/data-set/path/of/file`, optionally `@revision`, downloaded once.

    Raises:
        UsageError: the reference is malformed.
        GossamerError: the hub refused, or cannot be reached and the file is not cached.
    """
    match = _FILE.fullmatch(reference)
    if match is None or ".." in reference.split("/"):
        raise UsageError(f"{reference}: expected hub:owner/data-set/path/of/file, optionally @revision")
    try:
        return Path(hf_hub_download(match["repo"], match["file"], repo_type="dataset", revision=match["revision"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise _unreached(reference, error) from error


def streamed_rows(reference: str) -> Iterator[tuple[str, Any]]:
    """The first rows of a data set, each with where it stands, without downloading the rest.

    Args:
        reference: `datasets:NAME`, optionally followed by `:SPLIT` (train if none), `:CONFIG`, `@REVISION` and `#ROWS`
            (20,000 if none), as `datasets:HuggingFaceFW/fineweb:train:sample-10BT#5000`; NAME may be a folder.

    Raises:
        UsageError: the reference is malformed, or the package `datasets` is missing.
        GossamerError: there is no such data set, or it cannot be reached or read.
    """
    match = _STREAM.fullmatch(reference)
    if match is None:
        raise UsageError(
            f"{reference}: expected datasets:NAME, then :SPLIT, :CONFIG, @REVISION and #ROWS where they are needed"
        )
    load_dataset = needed("datasets", f"{reference}: streaming a data set").load_dataset
    split, count = match["split"] or "train", int(match["rows"] or ROWS)
    try:
        rows = load_dataset(match["name"], match["config"], split=split, revision=match["revision"], streaming=True)
        for number, row in enumerate(islice(rows, count), 1):
            yield f"{reference}, row {number}", row
    # Its readers raise what the readers of their formats raise.
    except Exception as error:
        raise _unreached(reference, error) from error


def _unreached(reference: str, error: Exception) -> GossamerError:
    reason = " ".join(str(error).split())[:400]
    return GossamerError(f"{reference}: could not be fetched ({reason}); check the name and the network")
