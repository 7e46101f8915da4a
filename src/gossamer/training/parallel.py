"""The processes of a run that `torchrun` started: one alone if none did.

Every process holds the whole dictionaries and some of the activations of every step; gradients, and whatever else is
measured over a step's activations, are combined, so that all processes take the same step. Only the first writes.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed

from gossamer.errors import UsageError
from gossamer.sparse.bits import as_integers
from gossamer.training.gradients import Gradients


@dataclass(frozen=True)
class Processes:
    """This process among the others.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Those of torch's default process group; one alone if there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """Of `count` equal shares, the first belonging to this process and the first that no longer does."""
        return self.rank, self.rank + 1

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` (any shape) over all processes, in place."""
        if self.count > 1:
            assert value.is_contiguous(), "NCCL would refuse what gloo takes"
            distributed.all_reduce(value)
        return value

    def any(self, mask: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """True where it is in any process."""
        return mask if self.count == 1 else self.sum(mask.int()).bool()

    def least(self, value: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The least `value` of all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(value, distributed.ReduceOp.MIN)
        return value

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def kth_largest(self, values: Float[Tensor, "n"], k: int | Int[Tensor, ""]) -> Float[Tensor, ""]:
        """The k-th largest of all processes' positive values together; 0 if there are fewer.

        Halving the range of the bits (:mod:`gossamer.sparse.bits`) finds the number exactly: 31 sums of one count (63
        in float64), and no value is sent. Every process must hold positive `values`.
        """
        bits = as_integers(values)
        found = torch.zeros((), dtype=bits.dtype, device=values.device)
        for bit in reversed(range(torch.iinfo(bits.dtype).bits - 1)):
            trial = found | (1 << bit)
            enough = self.sum((bits >= trial).sum()) >= k
            found = torch.where(enough, trial, found)
        return found.view(values.dtype)

    def gathered(self, rows: Float[Tensor, "n *shape"]) -> Float[Tensor, "all *shape"]:
        """The rows of all processes, one process after the other. Waits for the device: their numbers may differ."""
        if self.count == 1:
            return rows
        lengths = self.sum(torch.nn.functional.one_hot(torch.tensor(self.rank), self.count).to(rows.device) * len(rows))
        padded = rows.new_zeros(int(lengths.max()), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in range(self.count)]
        distributed.all_gather(found, padded)
        return torch.cat([part[:length] for part, length in zip(found, lengths.tolist(), strict=True)])


def combined(own: Gradients, tokens: int, processes: Processes) -> Gradients:
    """The gradients of a batch of `tokens` tokens from what each process found on its own part of it."""
    if processes.count == 1:
        return own
    share = own.tokens / tokens

    def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # NCCL takes tensors only that lie in a row.
        return {name: processes.sum((value * share).contiguous()) for name, value in values.items()}

    fired = processes.sum(own.fired.clone())
    return Gradients(mean(own.parameters), mean(own.averaged), fired, tokens)


@contextlib.contextmanager
def joined(device: torch.device | str | None = None) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, over NCCL on CUDA and gloo elsewhere, and leave them at the end.

    Raises:
        UsageError: `torchrun` started them, but this torch cannot talk between processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if not distributed.is_available():
        raise UsageError("this torch was built without torch.distributed; start one process instead")
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes.current()
    finally:
        distributed.destroy_process_group()
