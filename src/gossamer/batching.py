"""Work in batches that shrink when memory runs out, instead of a run that dies."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.errors import GossamerError

Result = TypeVar("Result")
# How torch and the libraries under it say that an allocation on the CPU failed, on Linux, Windows and macOS.
_SAID = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc", "bad allocation")
# The batch that fitted, by the work that it was for and the batch that was asked for.
_fitted: dict[tuple[object, int], int] = {}


class MemoryWarning(UserWarning):
    """Memory ran out and the batch was halved: results are the same, the run is slower."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


def in_batches(total: int, batch_size: int, work: Callable[[slice], Result], *, same_as: object = None) -> list[Result]:
    """Call `work(rows)` over `range(total)` in order and return the results.

    When an allocation fails the batch is halved, a :class:`MemoryWarning` says so, and the same rows are tried again.
    It stays halved: later calls for the same work begin with the batch that fitted. Work is the same if its code is,
    or, where it is given, if `same_as` is equal.

    Raises:
        GossamerError: a single row does not fit.
    """
    results: list[Result] = []
    start, asked = 0, (code_of(work) if same_as is None else same_as, batch_size)
    batch_size = _fitted.get(asked, batch_size)
    while start < total:
        rows = slice(start, min(start + batch_size, total))
        try:
            results.append(work(rows))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            batch_size = _fitted[asked] = halved(rows.stop - rows.start, error)
            continue
        start = rows.stop
    return results


def distinct_rows(*parts: Tensor) -> tuple[Int[Tensor, "kinds"], Int[Tensor, "rows"]]:
    """The first row of each kind, and of every row which kind it is: rows are of one kind if they are equal to the bit.

    A row has its share of each of `parts`, which have as many rows. What is done to each row by itself needs to be done
    once for each kind.
    """
    kinds: dict[bytes, int] = {}
    firsts: list[int] = []
    bits = [part.detach().cpu().contiguous().view(len(part), -1).view(torch.uint8).numpy() for part in parts]
    of = []
    for row in range(len(parts[0])):
        kind = kinds.setdefault(b"".join(part[row].tobytes() for part in bits), len(kinds))
        if kind == len(firsts):
            firsts.append(row)
        of.append(kind)
    device = parts[0].device
    return torch.tensor(firsts, device=device), torch.tensor(of, device=device)


@contextlib.contextmanager
def named_when_out_of_memory(what: str, advice: str) -> Iterator[None]:
    """For work that cannot be halved: a failure to allocate inside is a :class:`GossamerError` with `advice`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise GossamerError(f"out of memory {what}; {advice}") from error


def code_of(work: object) -> object:
    """What a function made anew for every call has in common with those of earlier calls."""
    while isinstance(work, functools.partial):
        work = work.func
    return getattr(work, "__code__", type(work))


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
