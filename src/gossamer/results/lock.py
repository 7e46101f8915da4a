"""One process at a time in a folder: two that write there would undo or mix each other's work."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gossamer.errors import UsageError
from gossamer.files import remove_leftovers, unwritable

try:
    import fcntl
except ImportError:  # not on Windows, where folders go unheld
    fcntl = None  # type: ignore[assignment]


class HeldError(UsageError):
    """Another process holds a folder."""


@contextlib.contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Hold `folder`, which is made if missing, for this process; the system lets go of it however the process ends.

    Half-written files that killed runs left there are removed first. At the end the folder is removed again if it was
    made here and nothing was written to it. On file systems without locks nothing is held.

    Raises:
        HeldError: another process holds it.
        UsageError: nothing can be written there.
    """
    target = Path(folder)
    made: list[Path] = []
    try:
        handle = _acquired(target, made)
        try:
            tempfile.TemporaryFile(dir=target).close()
            remove_leftovers(target)
        except OSError:
            _let_go(handle)
            raise
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        yield
    finally:
        # Only who holds a folder may remove it: a folder removed under another's lock could be made and held twice.
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        _let_go(handle)


def _acquired(target: Path, made: list[Path]) -> int | None:
    """An open, locked handle of the folder that lies at `target` now; folders made for it are added to `made`."""
    while True:
        made += _make(target)
        if fcntl is None:
            return None
        # The folder itself is locked, so that no file of ours stays behind.
        try:
            handle = os.open(target, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise HeldError(
                f"{target}: another process is at work there; wait until it is done, or give another folder"
            ) from None
        except OSError:
            # A file system without locks, as some networks have.
            return handle
        if _is_at(handle, target):
            return handle
        # Its holder removed it between our opening and locking it: what we hold is no longer anyone's folder.
        os.close(handle)


def _let_go(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _is_at(handle: int, target: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(target))
    return False


def _make(target: Path) -> list[Path]:
    """Make the folders that are missing, and say which were made by us and not by another process meanwhile."""
    made = []
    for path in reversed((target, *target.parents)):
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            path.mkdir()
            made.append(path)
    return made
