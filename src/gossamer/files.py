"""Reading and writing files so that nothing is ever half-written and a damaged file is named."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from gossamer.errors import GossamerError, UsageError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`, on failure removed.

    Raises:
        UsageError: no file can be made there (a folder of that name, a file among its folders, no permission).
        GossamerError: writing failed; whatever stood at `path` stands there still.
    """
    target = Path(path)
    temporary = _beside(target)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise GossamerError(
            f"{target}: could not be written ({error.strerror or error}); nothing was changed"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    """A new empty file in the folder of `target`, which is made if missing."""
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has that name")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        raise unwritable(target, error) from error
    os.close(handle)
    return Path(name)


def unwritable(path: Path, error: OSError) -> UsageError:
    """What to raise where nothing can be written."""
    return UsageError(f"{path}: cannot be written ({error.strerror or error}); give another path or make room for it")


def require_folder(folder: str | Path) -> None:
    """Refuse a folder that nothing could be written into, before the work whose results it is for.

    Nothing is made: of a folder that is missing, the nearest one above it is tried.

    Raises:
        UsageError: it is a file, lies in one, or may not be made or written.
    """
    target = Path(folder).absolute()
    try:
        missing = list(takewhile(lambda path: not _stands(path), (target, *target.parents)))
        standing = missing[-1].parent if missing else target
        tempfile.TemporaryFile(dir=standing).close()
        for path in missing:
            # A name that the file system cannot have is refused only where it would lie.
            _stands(standing / path.name)
    except OSError as error:
        raise unwritable(Path(folder), error) from error


def _stands(path: Path) -> bool:
    """Whether there is something at `path`. Raises :class:`OSError` if nothing ever can be."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left half-written in `folder`; only for a folder that one run at a time writes to."""
    # The second name is that of safetensors, which writes to a file of its own before ours gets its name.
    for pattern in (".*.part", ".tmp??????"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, atomically. Returns the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically; NaN is refused because JSON has none. Returns the path."""
    return write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises :class:`UsageError` if it is missing, :class:`GossamerError` if it is damaged."""
    source = Path(path)
    if not source.is_file():
        raise UsageError(f"{source}: no such file; give the path of an existing JSON file")
    try:
        # Some editors begin a file with a byte-order mark, which is no part of the JSON.
        return json.loads(source.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GossamerError(
            f"{source}: expected JSON, found damage ({error}); restore or regenerate the file"
        ) from error
