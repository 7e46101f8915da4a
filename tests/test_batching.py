"""Batches shrink when memory runs out, and results stay the same."""

import pytest
import torch

from gossamer.batching import MemoryWarning, in_batches
from gossamer.errors import GossamerError


def test_every_row_comes_once_in_order():
    assert in_batches(7, 3, lambda rows: list(range(rows.start, rows.stop))) == [[0, 1, 2], [3, 4, 5], [6]]
    assert in_batches(0, 3, lambda rows: rows) == []


def test_a_batch_that_does_not_fit_is_halved_aloud():
    def work(rows: slice) -> list[int]:
        if rows.stop - rows.start > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(rows.start, rows.stop))

    with pytest.warns(MemoryWarning, match="halved from 8 to 4"):
        found = in_batches(10, 8, work)
    assert [row for part in found for row in part] == list(range(10))


def test_the_cpu_allocator_counts_too():
    def work(rows: slice) -> int:
        if rows.stop - rows.start > 1:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")
        return rows.start

    with pytest.warns(MemoryWarning):
        assert in_batches(2, 2, work) == [0, 1]


def test_one_row_that_does_not_fit_is_an_error():
    def work(rows: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(GossamerError, match="batch of one"), pytest.warns(MemoryWarning):
        in_batches(4, 2, work)


def test_other_errors_pass():
    def work(rows: slice) -> None:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        in_batches(4, 2, work)
