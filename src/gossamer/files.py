"""Reading and writing files so that nothing is ever half-written and a damaged file is named."""

import contextlib
import errno
import gzip
import importlib
import io
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from gossamer.errors import GossamerError, NotFiniteError, UsageError

# Of files that are read whole, in bytes: larger ones are no settings, results or prompts.
LIMIT = 1 << 30
# Characters read at a time, so that what unpacks to more than it may is noticed before memory is full.
_PART = 1 << 24
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
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


@contextlib.contextmanager
def replacing_all(folder: str | Path) -> Iterator[Path]:
    """Yield a new folder in `folder`, which is made if missing; on success its files go there together.

    JSON files say what the others mean: old ones go first and new ones come last, so that a process killed in between
    leaves a folder that its readers refuse, never new data under an old description. On failure nothing is changed.

    Raises:
        UsageError: no file can be made there.
        GossamerError: writing failed.
    """
    target = Path(folder)
    missing = [path for path in (target, *target.parents) if not path.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=target, prefix=".new.", suffix=".part"))
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        yield made
        files = sorted(made.iterdir(), key=lambda path: (path.suffix == ".json", path.name))
        for path in files:
            if path.suffix == ".json":
                (target / path.name).unlink(missing_ok=True)
        for path in files:
            path.replace(target / path.name)
    except OSError as error:
        raise GossamerError(f"{target}: could not be written ({error.strerror or error}); write it again") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
        # A refusal leaves no empty folder.
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


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
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, atomically. Returns the path."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically. Returns the path.

    Raises:
        NotFiniteError: it holds NaN or an infinity, which JSON has not.
        GossamerError: writing failed; whatever stood at `path` stands there still.
    """
    return write_text(path, _as_json(path, value, indent=1) + "\n")


def write_json_lines(path: str | Path, values: Iterable[Any]) -> Path:
    """Write a JSON value a line, atomically; :func:`read_json_lines` reads them. Returns the path.

    Raises:
        NotFiniteError: one holds NaN or an infinity, which JSON has not.
        GossamerError: writing failed; whatever stood at `path` stands there still.
    """
    return write_text(path, "".join(_as_json(path, value) + "\n" for value in values))


def _as_json(path: str | Path, value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise NotFiniteError(f"{path}: finite numbers expected, found one that JSON has not ({error})") from error


def read_text(path: str | Path, what: str = "text", limit: int = LIMIT) -> str:
    """Read a file of UTF-8 text, plain or compressed by gzip or zstd (its first bytes say so), at most `limit` of it.

    Args:
        path: the file.
        what: it should hold, for messages.
        limit: bytes of the file, and characters of its text, so that a wrong or hostile file is an error and no dead
            process.

    Raises:
        UsageError: it is missing, unreadable or too large.
        GossamerError: it is not UTF-8, or its compression is damaged.
    """
    source = Path(path)
    if not source.is_file():
        raise UsageError(f"{source}: no such file; give the path of an existing file of {what}")
    too_large = UsageError(f"{source}: at most {limit:,} bytes of {what} expected, found more; give a smaller file")
    try:
        if source.stat().st_size > limit:
            raise too_large
        # Some editors begin a file with a byte-order mark, which is no part of the text.
        with _plain(source) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as characters:
            parts, read = [], 0
            while read <= limit and (part := characters.read(_PART)):
                parts.append(part)
                read += len(part)
    except UnicodeDecodeError as error:
        raise GossamerError(
            f"{source}: expected UTF-8 {what}, found other bytes ({error}); convert or restore the file"
        ) from error
    except (zlib.error, EOFError, OSError) as error:
        # Errors of the system have a number, those of damaged files do not.
        number = error.errno if isinstance(error, OSError) else None
        if number is None:
            raise GossamerError(f"{source}: damaged where it is compressed ({error}); fetch it again") from error
        reason = os.strerror(number)
        raise UsageError(f"{source}: cannot be read ({reason}); give {what} that you may read") from error
    if read > limit:
        raise too_large
    return "".join(parts)


def begins_with(path: Path, start: bytes) -> bool:
    """Whether the first bytes of a file are `start`."""
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _plain(source: Path) -> Any:
    """A file of the bytes of a file, decompressed."""
    if begins_with(source, b"\x1f\x8b"):
        return gzip.open(source)
    if begins_with(source, b"\x28\xb5\x2f\xfd"):
        return needed("pyarrow", f"{source}: reading zstd").CompressedInputStream(str(source), "zstd")
    return source.open("rb")


def needed(module: str, purpose: str, install: str | None = None) -> Any:
    """A package that is not always there; `install`: what pip is to install for it, if not the package itself.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        install = install or package
        raise UsageError(f"{purpose} needs {package}, which is not installed; pip install {install}") from error


def parse_json(text: str, where: str, what: str = "one JSON value") -> Any:
    """The JSON value of `text`. `where` begins the message; `what` it should be, for messages.

    Raises:
        UsageError: it is a value a line, each well formed.
        GossamerError: not JSON, nested too deep, a number of too many digits, or half of a surrogate pair, which no
            text has.
    """
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        found = "lists or objects nested too deep"
    except UnicodeEncodeError as error:
        found = f"half of a character ({error.object[error.start]!r})"
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and _is_json_lines(text):
            raise UsageError(
                f"{where}: {what} expected, found lines of JSON (as of prompts); give the path of {what}"
            ) from error
        found = f"damage ({error})"
    except ValueError:
        found = "a number of too many digits"
    else:
        return value
    raise GossamerError(f"{where}: expected JSON, found {found}; restore or regenerate the file")


def _is_json_lines(text: str) -> bool:
    """Whether every line is a JSON value, or empty."""
    try:
        for line in text.split("\n"):
            if line.strip():
                json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def parse_json_lines(text: str, where: str) -> list[tuple[int, Any]]:
    """The values of a text with a JSON value a line; see :func:`read_json_lines`. Errors: those of :func:`parse_json`,
    with the line's number."""
    lines = enumerate(text.split("\n"), 1)
    return [(number, parse_json(line, f"{where}, line {number}")) for number, line in lines if line.strip()]


def read_json(path: str | Path, limit: int = LIMIT, what: str = "one JSON value") -> Any:
    """Read a JSON file; `what` it should be, for messages.

    Errors: those of :func:`read_text` and :func:`parse_json`.
    """
    return parse_json(read_text(path, "JSON", limit), str(path), what)


def read_json_lines(path: str | Path, limit: int = LIMIT) -> list[tuple[int, Any]]:
    """Read a file with a JSON value a line: the values with the numbers of their lines, from 1; empty lines are none.

    Only a newline ends a line: JSON strings hold other separators as they are. Errors: those of :func:`read_text` and
    :func:`parse_json`, with the line's number.
    """
    return parse_json_lines(read_text(path, "JSON lines", limit), str(path))
