"""Work in batches that shrink when memory runs out, instead of a run that dies."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from gossamer.errors import GossamerError

Result = TypeVar("Result")


class MemoryWarning(UserWarning):
    """Memory ran out and the batch was halved: results are the same, the run is slower."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is torch saying that an allocation failed, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "not enough memory" in str(error)
    )


def in_batches(total: int, batch_size: int, work: Callable[[slice], Result]) -> list[Result]:
    """Call `work(rows)` over `range(total)` in order and return the results.

    When an allocation fails the batch is halved, a :class:`MemoryWarning` says so, and the same rows are tried again.

    Raises:
        GossamerError: a single row does not fit.
    """
    results: list[Result] = []
    start = 0
    while start < total:
        rows = slice(start, min(start + batch_size, total))
        try:
            results.append(work(rows))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            batch_size = halved(rows.stop - rows.start, error)
            continue
        start = rows.stop
    return results


def halved(batch_size: int, error: BaseException) -> int:
    """Half of `batch_size`, said aloud; raises :class:`GossamerError` when there is nothing left to halve."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if batch_size <= 1:
        raise GossamerError(
            "out of memory with a batch of one; use a smaller model, fewer dictionaries, bfloat16 or another device"
        ) from error
    warnings.warn(f"out of memory: batch halved from {batch_size} to {batch_size // 2}", MemoryWarning, stacklevel=3)
    return batch_size // 2
