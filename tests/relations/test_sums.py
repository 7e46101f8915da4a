"""Sums beyond their limit lie in files: they are equal, and what was read of a file does not stay in memory."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from gossamer.relations.sums import SparseSums

SHAPE = (64, 20_000)


def filled(folder: Path) -> tuple[SparseSums, sparse.csr_matrix]:
    """Sums of three matrices, each above the limit, and what they come to."""
    sums, total = SparseSums(SHAPE, np.float64, 1000, folder), sparse.csr_matrix(SHAPE)
    for seed in range(3):
        one = sparse.random(*SHAPE, density=0.2, format="csr", random_state=seed)
        total = total + one
        sums.add(one.copy())
    return sums, total


def test_rows_of_several_files_are_the_sum(tmp_path: Path) -> None:
    sums, total = filled(tmp_path)
    assert sums.stored == 3 * 256_000
    for start in range(0, SHAPE[0], 16):
        found = sums.rows(start, start + 16)
        np.testing.assert_allclose(found.toarray(), total[start : start + 16].toarray())


def test_what_was_read_of_a_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    if not Path("/proc/self/smaps").is_file():
        pytest.skip("this system does not say what is in memory of a mapped file")
    sums, _ = filled(tmp_path)
    sums.rows(0, SHAPE[0])
    resident = size = 0
    for mapping in Path("/proc/self/smaps").read_text(encoding="utf-8").split("VmFlags"):
        if f"{tmp_path}/run." in mapping and "indptr" not in mapping:
            size += int(re.findall(r"^Size: +(\d+)", mapping, re.MULTILINE)[0])
            resident += int(re.findall(r"^Rss: +(\d+)", mapping, re.MULTILINE)[0])
    assert size > 3 * 256_000 * 12 / 1024
    assert resident < size / 10
