"""Results on disk: versioned, checksummed, resumable files that load as the dataclasses they were written from."""

from gossamer.results.document import Format, Older, digest
from gossamer.results.lock import folder_lock
from gossamer.results.record import Record, Recorder, record_format, versions

__all__ = ["Format", "Older", "Record", "Recorder", "digest", "folder_lock", "record_format", "versions"]
