"""metrics.jsonl: one line of numbers every so many steps, consistent with the checkpoint a run goes on from."""

import json
import os
from pathlib import Path
from typing import Any

from gossamer.errors import GossamerError
from gossamer.files import parse_json, read_text, write_text

FILE = "metrics.jsonl"


def append(folder: Path, records: list[dict[str, Any]]) -> None:
    """Add lines; a kill in between can leave half a line at the end, which :func:`rewind` removes.

    Raises:
        GossamerError: writing failed, as on a full disk.
    """
    lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("ab") as file:
            start = file.tell()
            try:
                file.write(lines.encode())
                file.flush()
            except OSError:
                # On a full disk part of a line may be there: the next one must not begin behind it.
                os.truncate(folder / FILE, start)
                raise
    except OSError as error:
        raise GossamerError(
            f"{folder / FILE}: could not be written ({error.strerror or error}); the last checkpoint stays: "
            "make room and start again"
        ) from error


def rewind(folder: Path, step: int) -> None:
    """Keep only the lines of steps before `step`, so that repeating those after it does not double them."""
    kept = [record for record in read(folder) if record["step"] < step]
    if (folder / FILE).exists():
        write_text(folder / FILE, "".join(json.dumps(record) + "\n" for record in kept))


def read(folder: Path) -> list[dict[str, Any]]:
    """All whole lines; [] if there is no file."""
    path = folder / FILE
    if not path.is_file():
        return []
    lines = read_text(path, "metrics").split("\n")
    # What follows the last newline is empty, or the half line of a killed run.
    return [parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], 1)]
