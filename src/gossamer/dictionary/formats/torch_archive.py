"""Files of `torch.save`, read without running anything that they hold.

Such a file is a pickle in a zip archive. torch's restricted unpickler (`weights_only`) makes tensors, numbers, texts
and plain containers of it and refuses everything else.
"""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.dictionary.formats.weights import DTYPES, damaged, existing
from gossamer.errors import GossamerError

# Kinds of tensors that no dictionary is made of; each test may rely on those before it.
_NOT_PLAIN: dict[str, Callable[[Tensor], bool]] = {
    "a nested one": lambda tensor: tensor.is_nested,
    "a sparse one": lambda tensor: tensor.layout != torch.strided,
    "one without numbers": lambda tensor: tensor.is_meta,
    "a quantised one": lambda tensor: tensor.is_quantized,
    "one whose entries share memory": lambda tensor: tensor.nbytes > tensor.untyped_storage().nbytes(),
}


def read_torch(path: Path, *, shapes_only: bool) -> dict[str, Any]:
    """The dictionary in a file, its tensors on the CPU, or its matrices on the meta device if only shapes are wanted.

    torch does not look at the checksums of the archive, so a changed number would go unnoticed: they are compared
    first (unless only shapes are wanted), which reads the file twice.

    Raises:
        GossamerError: the file is missing, truncated or damaged, holds no dictionary, or something that is not plain.
    """
    try:
        with zipfile.ZipFile(existing(path)) as archive:
            wrong = None if shapes_only else archive.testzip()
        if wrong is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {wrong}")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=shapes_only)
    except pickle.UnpicklingError as error:
        raise GossamerError(
            f"{path}: expected tensors, numbers and texts only, found objects that would run code when read; ask its "
            "makers for a safetensors file"
        ) from error
    except GossamerError:
        raise
    # A damaged archive or pickle can raise anything.
    except Exception as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict):
        raise GossamerError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    _require_plain(content, str(path))
    return {str(name): _shape(value) if shapes_only else value for name, value in content.items()}


def _require_plain(value: Any, where: str) -> None:
    """Refuse tensors that are no plain arrays: others fail, or claim more numbers than there are, wherever they go."""
    if isinstance(value, dict):
        for name, entry in value.items():
            _require_plain(entry, f"{where}: {str(name)[:80]}")
    if not isinstance(value, Tensor):
        return
    found = next((kind for kind, is_so in _NOT_PLAIN.items() if is_so(value)), None)
    if found is not None:
        raise GossamerError(f"{where}: expected a plain tensor with all its numbers, found {found}; save it as one")


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(entry) for name, entry in value.items()}
    return value.to("meta") if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0 else value


def floating(content: dict[str, Any], path: Path, leave: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The entries that are not named by `leave`, which must be floating-point tensors.

    Raises:
        GossamerError: naming the entry that is something else.
    """
    tensors = {name: value for name, value in content.items() if name not in leave}
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.dtype not in DTYPES.values():
            raise GossamerError(f"{path}: {name}: expected floating-point numbers, found {_kind(value)}")
    return tensors


def whole(content: dict[str, Any], name: str, path: Path) -> int | None:
    """The whole number at `name`, a tensor or not; None if there is none. Raises :class:`GossamerError` otherwise."""
    value = content.get(name)
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_floating_point() and not value.is_complex():
        value = value.item()
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise GossamerError(f"{path}: {name}: expected a whole number, found {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"{type(value).__name__}"
