"""One process at a time in a folder: two that write checkpoints there would undo each other's work."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from gossamer.errors import UsageError
from gossamer.files import require_folder

try:
    import fcntl
except ImportError:  # not on Windows, where folders go unheld
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Hold `folder`, which is made if missing, for this process; the system lets go of it however the process ends.

    Removed again at the end if it was made and nothing was written there. On file systems without locks nothing is
    held.

    Raises:
        UsageError: another process holds it, or nothing can be written there.
    """
    target = Path(folder)
    require_folder(target)
    made = [path for path in (target, *target.parents) if not path.exists()]
    target.mkdir(parents=True, exist_ok=True)
    try:
        with _held(target):
            yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def _held(target: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    # The folder itself is locked, so that no file of ours stays behind.
    handle = os.open(target, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UsageError(
            f"{target}: another process is at work there; wait until it is done, or give another folder"
        ) from None
    except OSError:
        # A file system without locks, as some networks have.
        pass
    try:
        yield
    finally:
        os.close(handle)
