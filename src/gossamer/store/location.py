"""Where a store lies: a local folder, or a folder of any file system that fsspec knows."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gossamer.errors import GossamerError, UsageError
from gossamer.files import atomic_write, needed, remove_leftovers
from gossamer.results.lock import folder_lock
from gossamer.tensor_files import require_space

EXTRA = '"gossamer[store]"'
_LOCK = "writer.lock"


@runtime_checkable
class Location(Protocol):
    """A folder of files that are read and written whole.

    Attributes:
        url: the folder, as it was given.
    """

    url: str

    def path(self, name: str) -> str:
        """The file of that name, as DuckDB opens it."""

    def size(self, name: str) -> int | None:
        """Its bytes; None where there is no such file."""

    def read(self, name: str) -> bytes:
        """Its content. Raises :class:`GossamerError` if it cannot be read."""

    def write(self, name: str, content: bytes) -> None:
        """Replace it, so that a reader sees all of the old content or all of the new.

        Raises:
            UsageError: no file can be made there.
            GossamerError: writing failed, as on a full disk; what stood there stands there still.
        """

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder for this process as its one writer. Raises :class:`UsageError` if another one holds it."""

    def require_space(self, bytes_needed: int, what: str) -> None:
        """Raise :class:`UsageError` if it is known that so many bytes do not fit."""

    def register(self, connection: Any) -> None:
        """Let a DuckDB connection read from here, and from nowhere else where that can be said."""


def locate(url: str | Path) -> Location:
    """The folder at a path, or at a URL such as memory://store, file:///data/store or s3://bucket/store.

    Raises:
        UsageError: a URL of a file system that fsspec does not know, or the extra is not installed.
    """
    text = str(url)
    # Refused before the work, not when the first table is to be written or read.
    for package in ("pyarrow", "duckdb"):
        needed(package, "a feature store", EXTRA)
    if "://" not in text:
        return _Local(text, Path(text))
    fsspec = needed("fsspec", f"{text}: a URL", EXTRA)
    try:
        system, root = fsspec.url_to_fs(text)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{text}: no file system of that name ({error}); give a folder or another URL") from error
    if text.startswith(("file://", "local://")):
        return _Local(text, Path(root))
    return _Remote(text, system, root)


class _Local:
    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder

    def path(self, name: str) -> str:
        return str(self._folder.absolute() / name)

    def size(self, name: str) -> int | None:
        path = self._folder / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        path = self._folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise _unreadable(str(path), error) from error

    def write(self, name: str, content: bytes) -> None:
        with atomic_write(self._folder / name) as temporary:
            temporary.write_bytes(content)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with folder_lock(self._folder):
            for inner in self._folder.iterdir():
                if inner.is_dir():
                    remove_leftovers(inner)
            yield

    def require_space(self, bytes_needed: int, what: str) -> None:
        require_space(self._folder, bytes_needed, what)

    def register(self, connection: Any) -> None:
        folder = str(self._folder.absolute()).replace("'", "''")
        connection.execute(f"SET allowed_directories = ['{folder}/']")
        connection.execute("SET enable_external_access = false")


class _Remote:
    def __init__(self, url: str, system: Any, root: str) -> None:
        self.url, self._system, self._root = url, system, root.rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def path(self, name: str) -> str:
        return str(self._system.unstrip_protocol(self._at(name)))

    def size(self, name: str) -> int | None:
        try:
            return int(self._system.size(self._at(name)))
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes:
        try:
            return bytes(self._system.cat_file(self._at(name)))
        except OSError as error:
            raise _unreadable(self.path(name), error) from error

    def write(self, name: str, content: bytes) -> None:
        # Not every file system makes a file appear at once: it is renamed when it is complete.
        part = f"{self._at(name)}.part"
        try:
            self._system.makedirs(part.rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(part, content)
            self._system.mv(part, self._at(name))
        except OSError as error:
            raise GossamerError(f"{self.path(name)}: could not be written ({error}); nothing was changed") from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        path = self._at(_LOCK)
        self._system.makedirs(self._root, exist_ok=True)
        try:
            with self._system.open(path, "xb") as file:
                file.write(b"")
        except FileExistsError:
            raise UsageError(
                f"{self.url}: another process writes there, or one was killed while it did; wait until it is done, or "
                f"delete {_LOCK} there if none is at work"
            ) from None
        try:
            yield
        finally:
            self._system.rm_file(path)

    def require_space(self, bytes_needed: int, what: str) -> None:
        """Nothing is known of what is free there."""

    def register(self, connection: Any) -> None:
        connection.register_filesystem(self._system)


def _unreadable(path: str, error: OSError) -> GossamerError:
    return GossamerError(f"{path}: cannot be read ({error.strerror or error}); restore it")
