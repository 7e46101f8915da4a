"""Tensors from safetensors and npz files, checked before anything is computed with them."""

import hashlib
import math
import zipfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gossamer.errors import GossamerError
from gossamer.files import atomic_write
from gossamer.finite import require_finite
from gossamer.tensor_files import write_tensors

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
# Deflate packs no byte into less than a thousandth.
_MOST_PACKED = 1100
_SAFETENSORS_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_safetensors(path: Path, *, shapes_only: bool, leave: Container[str] = ()) -> dict[str, Tensor]:
    """All tensors of a file but those named by `leave`, on the CPU, or on the meta device if only shapes are wanted.

    The format has no checksums: a truncated file and a damaged header are noticed, a changed number is not.

    Raises:
        GossamerError: the file is missing, truncated or damaged, or holds something else than floating-point numbers.
    """
    try:
        with safe_open(existing(path), framework="pt") as file:
            names = [name for name in file.keys() if name not in leave]  # noqa: SIM118
            if shapes_only:
                return {name: _meta(file.get_slice(name), f"{path}: {name}") for name in names}
            # The file's own pages otherwise: whoever wrote to it would change the dictionary, or kill its process.
            return {name: _floating(file.get_tensor(name), f"{path}: {name}").clone() for name in names}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from error


def _meta(piece: object, where: str) -> Tensor:
    shape: list[int] = piece.get_shape()  # type: ignore[attr-defined]
    dtype: str = piece.get_dtype()  # type: ignore[attr-defined]
    if dtype not in _SAFETENSORS_DTYPES:
        raise GossamerError(f"{where}: expected floating-point numbers, found {dtype}")
    return torch.empty(shape, dtype=_SAFETENSORS_DTYPES[dtype], device="meta")


def read_npz(path: Path, *, shapes_only: bool) -> dict[str, Tensor]:
    """All arrays of a file (never a pickle), on the CPU, or on the meta device if only shapes are wanted.

    Raises:
        GossamerError: the file is missing, truncated or damaged, or holds something else than floating-point numbers.
    """
    try:
        shapes = _npz_shapes(existing(path))
        if shapes_only:
            return shapes
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _floating(torch.from_numpy(arrays[name]), f"{path}: {name}") for name in arrays.files}
    except GossamerError:
        raise
    # A damaged archive can raise anything: an encrypted one a RuntimeError, a compressed one errors of zlib.
    except Exception as error:
        raise damaged(path, error) from error


def _npz_shapes(path: Path) -> dict[str, Tensor]:
    """The arrays' shapes, of which none may promise more numbers than its part of the file can hold."""
    shapes: dict[str, Tensor] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = header(file)
            if dtype.name not in DTYPES:
                raise GossamerError(f"{path}: {member.filename}: expected floating-point numbers, found {dtype}")
            size = math.prod(shape) * dtype.itemsize
            if min(shape, default=1) < 0 or size > min(member.file_size, _MOST_PACKED * (member.compress_size + 1)):
                raise GossamerError(f"{path}: {member.filename}: {size:,} bytes promised, found fewer; fetch it again")
            shapes[member.filename.removesuffix(".npy")] = torch.empty(shape, dtype=DTYPES[dtype.name], device="meta")
    return shapes


def is_there(path: Path) -> bool:
    """Whether a file that may be missing is there. Raises :class:`GossamerError` for a link to nothing."""
    if path.is_symlink() and not path.exists():
        raise GossamerError(f"{path}: a link to a file that is not there; fetch it again, or remove the link")
    return path.is_file()


def existing(path: Path) -> Path:
    """The path of a file that must be there. Raises :class:`GossamerError` if it is not."""
    if not path.is_file():
        raise GossamerError(f"{path}: no such file; fetch the whole folder of the dictionary")
    return path


def _floating(tensor: Tensor, where: str) -> Tensor:
    if tensor.dtype not in DTYPES.values():
        raise GossamerError(f"{where}: expected floating-point numbers, found {tensor.dtype}")
    return tensor


def damaged(path: Path, error: Exception) -> GossamerError:
    """What to raise when a library could not make sense of a file, in one line."""
    reason = " ".join(str(error).split())
    return GossamerError(f"{path}: damaged or not of this format ({reason}); fetch or write it again")


def checked(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], path: Path) -> dict[str, Tensor]:
    """The tensors named by `shapes`, which must be all there are, of these shapes and finite (unless on meta).

    Raises:
        GossamerError: naming the tensor, what was expected and what was found.
    """
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise GossamerError(
            f"{path}: expected tensors {', '.join(sorted(shapes))}; missing: {', '.join(missing)}; "
            "fetch the file again, or correct its configuration"
        )
    if surplus := sorted(tensors.keys() - shapes.keys()):
        raise GossamerError(
            f"{path}: expected only tensors {', '.join(sorted(shapes))}; found also {', '.join(surplus)}, "
            "whose meaning for this architecture is not known; correct the configuration, or take them out"
        )
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise GossamerError(
                f"{path}: {name}: expected shape {shape}, found {tuple(tensors[name].shape)}; "
                "fetch the file again, or correct its configuration"
            )
        if not tensors[name].is_meta:
            require_finite(tensors[name], f"{path}: {name}")
    return {name: tensors[name] for name in shapes}


def renamed(
    stored: Mapping[str, Tensor], names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> dict[str, Tensor]:
    """The tensors of a file under gossamer's names, after :func:`checked`.

    Args:
        stored: what the file holds.
        names: for each of gossamer's names the file's; ".T" at its end says that the file holds the transposed matrix.
        shapes: gossamer's names and shapes.
    """
    theirs = {ours: name.removesuffix(".T") for ours, name in names.items()}
    turned = {ours for ours, name in names.items() if name.endswith(".T")}
    wanted = {theirs[ours]: shape[::-1] if ours in turned else shape for ours, shape in shapes.items()}
    tensors = checked(stored, wanted, path)
    return {ours: tensors[theirs[ours]].T if ours in turned else tensors[theirs[ours]] for ours in shapes}


def matrix_shape(stored: Mapping[str, Tensor], name: str, path: Path) -> tuple[int, int]:
    """Rows and columns of a matrix. Raises :class:`GossamerError` if there is no matrix of that name."""
    if name not in stored or stored[name].ndim != 2:
        raise GossamerError(f"{path}: expected a matrix {name}, found none; fetch the file again")
    rows, columns = stored[name].shape
    return rows, columns


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors atomically."""
    write_tensors(path, tensors)


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as float32 arrays, uncompressed, atomically."""
    arrays: dict[str, Any] = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
