"""Writing safetensors files so that a full disk is one line and leaves nothing half-written."""

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.files import atomic_write

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors and words to `path`, atomically.

    Raises:
        UsageError: no file can be made there.
        GossamerError: writing failed, as on a full disk; whatever stood at `path` stands there still.
    """
    with atomic_write(path) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
        except SafetensorError as error:
            # safetensors hides the system's error in words of its own.
            code = _OS_ERROR.search(str(error))
            number = int(code[1]) if code else errno.EIO
            raise OSError(number, os.strerror(number) if code else str(error)) from error


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse work whose results, `needed` bytes of them, the disk of `folder` has no room for.

    Raises:
        UsageError: it has not.
    """
    standing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(standing).free
    if free < needed:
        raise UsageError(
            f"{folder}: {what} needs {_size(float(needed))}, found {_size(float(free))} free; "
            "make room or give another folder"
        )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
