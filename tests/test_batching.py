"""Batches shrink when memory runs out, and results stay the same."""

import subprocess
import sys
import warnings

import pytest
import torch

from gossamer.batching import MemoryWarning, distinct_rows, in_batches, named_when_out_of_memory
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_of_one_kind_only_if_all_their_parts_are_equal_to_the_bit(dtype):
    values = torch.tensor([[1, 2], [3, 4], [1, 2], [1, 2], [torch.nan, 0], [torch.nan, 0], [1, -0.0], [1, 0.0]])
    mask = torch.tensor([[True], [True], [True], [False], [True], [True], [True], [True]])
    first, kind = distinct_rows(values.to(dtype), mask)
    assert first.tolist() == [0, 1, 3, 4, 6, 7]
    assert kind.tolist() == [0, 1, 0, 2, 3, 3, 4, 5]


LIMITED = """
import resource, sys, warnings
import torch
from gossamer.batching import in_batches

torch.set_num_threads(1)
kind = sys.argv[1]

def allocate(size):
    return bytearray(size) if kind == "python" else torch.empty(size, dtype=torch.uint8)

# What an error itself needs, torch's libraries with their symbols among it, is there before the limit is set.
try:
    allocate(2**60)
except (MemoryError, RuntimeError):
    pass
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**28, used + 3 * 2**28))

def work(rows):
    allocate((rows.stop - rows.start) * 2**28)
    return rows.stop - rows.start

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print([in_batches(16, 16, work), in_batches(4, 16, work)], len(caught))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are Linux's")
@pytest.mark.parametrize("kind", ["torch", "python"])
def test_a_real_failure_to_allocate_halves_once_and_for_all(kind):
    """Three quarters of a gibibyte more than is in use: sixteen quarters of one do not fit, nor eight, nor four."""
    found = subprocess.run([sys.executable, "-c", LIMITED, kind], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    sizes, warned = found.stdout.rsplit(" ", 1)
    whole, later = eval(sizes)
    assert sum(whole) == 16
    assert set(whole) <= {1, 2}
    assert int(warned) >= 3
    assert later[0] == whole[0], "what was halved stays halved"


def test_a_halved_batch_is_remembered_for_the_same_work_only():
    def made(limit):
        def work(rows: slice) -> int:
            if rows.stop - rows.start > limit:
                raise MemoryError
            return rows.stop - rows.start

        return work

    with pytest.warns(MemoryWarning):
        assert in_batches(8, 8, made(2)) == [2, 2, 2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert in_batches(8, 8, made(2)) == [2, 2, 2, 2]
        assert in_batches(8, 8, lambda rows: rows.stop - rows.start) == [8]
        assert in_batches(3, 3, lambda rows: rows.stop - rows.start) == [3]


def test_work_that_cannot_be_halved_says_what_to_do():
    with (
        pytest.raises(GossamerError, match="out of memory while training; give a smaller batch"),
        named_when_out_of_memory("while training", "give a smaller batch"),
    ):
        torch.empty(2**62, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), named_when_out_of_memory("while training", "no"):
        raise RuntimeError("shape mismatch")


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
