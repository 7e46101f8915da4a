"""Sparse rows times dense ones on a GPU, in Triton: few entries a token, without a matrix of tokens and latents.

Both kernels take compressed sparse rows (`starts`, `columns`) and never wait for the device. They are written for any
device that Triton knows; TRITON_INTERPRET=1 runs them on a CPU, which is how they are tested.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

# Entries of a row that are worked on together, and columns of the dense rows.
ENTRIES, COLUMNS = 16, 128


@triton.jit
def _sums(starts, columns, values, dense, out, width, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: ANN001, ANN202
    row = tl.program_id(0).to(tl.int64)
    here = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = here < width
    end = tl.load(starts + row + 1)
    total = tl.zeros((COLUMNS,), dtype=dense.dtype.element_ty)
    for first in range(tl.load(starts + row), end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        present = entries < end
        weights = tl.load(values + entries, mask=present, other=0.0)
        places = tl.load(columns + entries, mask=present, other=0)[:, None] * width + here[None, :]
        found = tl.load(dense + places, mask=present[:, None] & inside[None, :], other=0.0)
        total += tl.sum(weights[:, None] * found, axis=0)
    tl.store(out + row * width + here, total, mask=inside)


@triton.jit
def _products(starts, columns, left, right, out, width, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: ANN001, ANN202
    row = tl.program_id(0).to(tl.int64)
    end = tl.load(starts + row + 1)
    for first in range(tl.load(starts + row), end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        present = entries < end
        others = tl.load(columns + entries, mask=present, other=0)
        total = tl.zeros((ENTRIES,), dtype=left.dtype.element_ty)
        for beginning in range(0, width, COLUMNS):
            here = beginning + tl.arange(0, COLUMNS)
            inside = here < width
            own = tl.load(left + row * width + here, mask=inside, other=0.0)
            places = others[:, None] * width + here[None, :]
            found = tl.load(right + places, mask=present[:, None] & inside[None, :], other=0.0)
            total += tl.sum(own[None, :] * found, axis=1)
        tl.store(out + entries, total, mask=present)


def sums(
    starts: Int[Tensor, "rows_plus_one"],
    columns: Int[Tensor, "entries"],
    values: Float[Tensor, "entries"],
    dense: Float[Tensor, "n d"],
) -> Float[Tensor, "rows d"]:
    """The sparse matrix with these values times `dense`."""
    rows, width = len(starts) - 1, dense.shape[1]
    out = dense.new_empty(rows, width)
    grid = (rows, triton.cdiv(width, COLUMNS))
    # Triton starts kernels on the current GPU, wherever the tensors are.
    with torch.cuda.device_of(dense):
        _sums[grid](starts, columns, values, dense.contiguous(), out, width, ENTRIES, COLUMNS)
    return out


def products(
    starts: Int[Tensor, "rows_plus_one"],
    columns: Int[Tensor, "entries"],
    left: Float[Tensor, "rows d"],
    right: Float[Tensor, "n d"],
) -> Float[Tensor, "entries"]:
    """left @ right.T at the entries of the sparse matrix."""
    out = left.new_empty(len(columns))
    grid, width = (len(starts) - 1,), left.shape[1]
    with torch.cuda.device_of(left):
        _products[grid](starts, columns, left.contiguous(), right.contiguous(), out, width, ENTRIES, COLUMNS)
    return out
