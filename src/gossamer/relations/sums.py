"""Sums of sparse products: a large sparse matrix that grows by addition, in memory and, beyond a limit, on disk."""

import mmap
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from gossamer.errors import UsageError

Csr = Any
_PARTS = ("indptr", "indices", "data")


class SparseSums:
    """The sum of sparse matrices of one shape, exact for counts, in float64 for products.

    Parts are merged as the runs of a merge sort are: two neighbours once they are of like size, so that every entry is
    copied a logarithmic number of times. When the parts in memory hold more than `limit` entries they are written to
    `folder` as one, and read from there row by row. Addition is associative: :meth:`take` adds what another summed.

    Memory: at most 2 * limit entries of 4 bytes and one value (4 bytes of int32 or 8 of float64), and 8 * rows bytes a
    part on disk; the whole lies nowhere densely.
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, limit: int, folder: Path | None = None) -> None:
        self.shape, self.dtype, self.limit, self.folder = shape, np.dtype(dtype), limit, folder
        self._parts: list[Csr] = []
        self._runs: list[Csr] = []

    def add(self, matrix: Csr) -> None:
        """Add a matrix of this shape.

        Raises:
            UsageError: it has another shape.
        """
        if matrix.shape != self.shape:
            raise UsageError(f"sums of pairs: a matrix of {self.shape} expected, found {matrix.shape}")
        if not matrix.nnz:
            return
        matrix.sort_indices()
        self._parts.append(matrix)
        while len(self._parts) > 1 and self._parts[-2].nnz < 2 * self._parts[-1].nnz:
            last = self._parts.pop()
            self._parts[-1] = self._parts[-1] + last
        if self.folder is not None and sum(part.nnz for part in self._parts) > self.limit:
            self._write(self.folder)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What it is made of: runs that lie on disk, and all that is in memory as one part."""
        parts = {f"run{number}": run for number, run in enumerate(self._runs)}
        if self._parts:
            self._parts = [self._in_memory(0, self.shape[0])]
            parts["part"] = self._parts[0]
        return {f"{part}/{name}": getattr(one, name) for part, one in parts.items() for name in _PARTS}

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add what another is made of; its runs stay where they lie."""
        for number in range(len(arrays) // len(_PARTS)):
            if f"run{number}/indptr" in arrays:
                self._runs.append(self._mapped([arrays[f"run{number}/{name}"] for name in _PARTS]))
        if "part/indptr" in arrays:
            self.add(self._mapped([arrays[f"part/{name}"] for name in _PARTS]))

    def _mapped(self, arrays: Sequence[NDArray[Any]]) -> Csr:
        found = sparse.csr_matrix(self.shape, dtype=self.dtype)
        # Set, not given: the constructor would read all of it to check it.
        found.indptr, found.indices, found.data = arrays
        return found

    def _write(self, folder: Path) -> None:
        whole = self._in_memory(0, self.shape[0])
        place = Path(tempfile.mkdtemp(dir=folder, prefix="run."))
        for name in _PARTS:
            np.save(place / f"{name}.npy", getattr(whole, name))
        self._parts = []
        self._runs.append(self._mapped([np.load(place / f"{name}.npy", mmap_mode="r") for name in _PARTS]))
        # What is mapped stays until nobody has it any more, and no longer: also if this process is killed.
        shutil.rmtree(place, ignore_errors=True)

    def _in_memory(self, start: int, stop: int) -> Csr:
        return _total([part[start:stop] for part in self._parts], (stop - start, self.shape[1]), self.dtype)

    def rows(self, start: int, stop: int) -> Csr:
        """The sum's rows from `start` to `stop`, with sorted indices."""
        found = [_sliced(run, start, stop) for run in self._runs]
        return _total([*found, self._in_memory(start, stop)], (stop - start, self.shape[1]), self.dtype)

    @property
    def stored(self) -> int:
        """Entries of all parts; an entry that several parts have counts in each."""
        return sum(part.nnz for part in (*self._parts, *self._runs))

    def row_counts(self) -> NDArray[np.int64]:
        """Stored entries of each row."""
        counts = np.zeros(self.shape[0], np.int64)
        for part in (*self._parts, *self._runs):
            counts += np.diff(np.asarray(part.indptr))
        return counts


def _sliced(run: Csr, start: int, stop: int) -> Csr:
    first, last = int(run.indptr[start]), int(run.indptr[stop])
    starts = np.asarray(run.indptr[start : stop + 1]) - first
    parts = (np.array(run.data[first:last]), np.array(run.indices[first:last]), starts)
    for array in (run.data, run.indices):
        _let_go(array)
    return sparse.csr_matrix(parts, shape=(stop - start, run.shape[1]))


def _let_go(array: NDArray[Any]) -> None:
    """Pages that were read of a mapped file need not stay in this process's memory."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _total(parts: list[Csr], shape: tuple[int, int], dtype: Any) -> Csr:
    """Their sum, the smallest two first, so that every entry is copied a logarithmic number of times."""
    parts = [part for part in parts if part.nnz]
    while len(parts) > 1:
        parts.sort(key=lambda one: -one.nnz)
        last = parts.pop()
        parts[-1] = parts[-1] + last
    total = parts[0] if parts else sparse.csr_matrix(shape, dtype=dtype)
    total.sort_indices()
    return total


@dataclass
class LatentSums:
    """What each latent of one dictionary did: float64 sums and exact counts, n_latents * 40 bytes.

    Attributes:
        active: tokens at which it is above its threshold; `alive`: at which it is above 0.
        sums, squares, maximum: of its activation.
    """

    active: NDArray[np.int64]
    alive: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    maximum: NDArray[np.float64]

    @classmethod
    def zeros(cls, n_latents: int) -> "LatentSums":
        """Before the first token."""
        active, alive = np.zeros(n_latents, np.int64), np.zeros(n_latents, np.int64)
        return cls(active, alive, np.zeros(n_latents), np.zeros(n_latents), np.zeros(n_latents))

    def add(self, latents: Csr, active: Csr) -> None:
        """Add the tokens (rows) of a chunk: activations, and which of them are above the threshold."""
        width = len(self.active)
        self.active += np.bincount(active.indices, minlength=width)
        self.alive += np.bincount(latents.indices, minlength=width)
        self.sums += np.bincount(latents.indices, latents.data, minlength=width)
        self.squares += np.bincount(latents.indices, latents.data**2, minlength=width)
        np.maximum.at(self.maximum, latents.indices, latents.data)

    def merge(self, other: "LatentSums") -> None:
        """Add what another process summed."""
        for name in ("active", "alive", "sums", "squares"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.maximum = np.maximum(self.maximum, other.maximum)


@dataclass
class PairSums:
    """Co-activation of two dictionaries: c_ij and sum f_i g_j of the pairs of which both were ever active.

    Attributes:
        counts: c_ij, int32.
        products: sum of f_i g_j, float64; None where neither cosine nor pearson is asked for.
        tokens: how many were added.
    """

    counts: SparseSums
    products: SparseSums | None
    tokens: int = 0

    @classmethod
    def empty(cls, shape: tuple[int, int], *, products: bool, limit: int, folder: Path | None) -> "PairSums":
        """Before the first token."""
        sums = SparseSums(shape, np.float64, limit, folder) if products else None
        return cls(SparseSums(shape, np.int32, limit, folder), sums)

    def add(self, upstream: tuple[Csr, Csr], downstream: tuple[Csr, Csr]) -> None:
        """Add the tokens of a chunk; of each side activations and activity (int32), (tokens, latents).

        Raises:
            UsageError: more tokens than a count holds.
        """
        self.more_tokens(upstream[0].shape[0])
        self.counts.add(upstream[1].T.tocsr() @ downstream[1])
        if self.products is not None:
            self.products.add(upstream[0].T.tocsr() @ downstream[0])

    def more_tokens(self, count: int) -> None:
        """Add to the tokens. Raises :class:`UsageError` if they are more than a count holds."""
        self.tokens += count
        if self.tokens > np.iinfo(np.int32).max:
            raise UsageError(f"relations: at most {np.iinfo(np.int32).max:,} tokens expected, found more; give fewer")
