"""A training loop that can be killed at any moment and goes on to the same result."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from gossamer.batching import named_when_out_of_memory
from gossamer.progress import begin, show_table
from gossamer.results.lock import folder_lock
from gossamer.training import loggers, metrics
from gossamer.training.checkpoint import Checkpoint
from gossamer.training.parallel import Processes

_LESS_MEMORY = "give a smaller batch or more parts of it (--batch, --accumulate), fewer latents or fewer sites at once"


@runtime_checkable
class TrainingJob(Protocol):
    """What is trained: everything that changes is in its state, everything else follows from the settings."""

    def begin(self) -> None:
        """Start from nothing."""

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Start from what `state` returned."""

    def state(self) -> dict[str, Tensor]:
        """Everything that changes; raises :class:`NotFiniteError` rather than let a bad state replace a good one."""

    def step(self, step: int) -> int:
        """Do step number `step`, without waiting for the device; returns tokens used."""

    def measured(self) -> list[dict[str, Any]]:
        """Lines for metrics.jsonl about the last step, read from the device.

        Raises:
            NotFiniteError: a loss is not finite (it is named).
        """


def finish(
    job: TrainingJob,
    what: str,
    steps: int,
    folder: Path,
    settings: dict[str, Any],
    checkpoint_every: int,
    *,
    processes: Processes | None = None,
    also: Sequence[str] = (),
) -> None:
    """Run the job's steps that are still to do, from the checkpoint in `folder` if there is one.

    `settings["log_every"]` says how many steps lie between lines of metrics.jsonl; only then, and before a checkpoint,
    the host waits for the device. Of several processes the first one writes, and all read the same folder.

    Args:
        also: names of :data:`gossamer.training.loggers.LOGGERS` that get the lines as well.

    Raises:
        UsageError: the checkpoint belongs to a run with other settings, another process is at work in the folder, or a
            logger is not installed or does not start.
        NotFiniteError: a loss or a parameter is not finite (it is named); the last checkpoint stays.
        GossamerError: the checkpoint is damaged, or could not be written.
    """
    processes = processes or Processes()
    with folder_lock(folder) if processes.writes else contextlib.nullcontext():
        stored = Checkpoint.load(folder, settings)
        done = 0 if stored is None else stored.step
        # Before anything is computed: a logger may not be there.
        opened = loggers.opened(also, folder) if processes.writes and done < steps else []
        with contextlib.ExitStack() as closing:
            for logger in opened:
                closing.callback(logger.close)
            if stored is None:
                job.begin()
            else:
                job.resume(stored.tensors)
            _steps(job, what, range(done, steps), folder, settings, checkpoint_every, processes, opened)


def _steps(
    job: TrainingJob,
    what: str,
    steps: range,
    folder: Path,
    settings: dict[str, Any],
    checkpoint_every: int,
    processes: Processes,
    opened: Sequence[loggers.MetricLogger],
) -> None:
    # Every process has read the checkpoint before the first one may replace it.
    processes.wait()
    record = _Record(what, steps, folder, opened) if processes.writes else None
    for step in steps:
        with named_when_out_of_memory(f"while {what}", _LESS_MEMORY):
            used = job.step(step)
        last = step + 1 == steps.stop
        if record is not None:
            record.count(used)
        if step % settings["log_every"] == 0 or last:
            lines = job.measured()
            if record is not None:
                record.write(step, lines)
        if (step + 1) % checkpoint_every == 0 or last:
            checkpoint = Checkpoint(step + 1, job.state(), settings)
            if processes.writes:
                checkpoint.save(folder)
    processes.wait()


class _Record:
    """What a run says of itself while it runs: metrics.jsonl, other loggers, a bar and a table."""

    def __init__(self, what: str, steps: range, folder: Path, opened: Sequence[loggers.MetricLogger]) -> None:
        self.folder, self.loggers = folder, opened
        metrics.rewind(folder, steps.start)
        self.advance = begin(what, steps.stop)
        self.advance(steps.start, "")
        self.note, self.tokens, self.since = "", 0, time.monotonic()

    def count(self, tokens: int) -> None:
        """One step is done."""
        self.tokens += tokens
        self.advance(1, self.note)

    def write(self, step: int, lines: list[dict[str, Any]]) -> None:
        """The numbers of `step`."""
        rate = round(self.tokens / max(time.monotonic() - self.since, 1e-9))
        records = [{"step": step, **line, "tokens_per_second": rate} for line in lines]
        metrics.append(self.folder, records)
        for logger in self.loggers:
            logger.write(records)
        show_table([_row(line) for line in lines])
        self.note, self.tokens, self.since = f"{rate:,} tokens/s", 0, time.monotonic()


_COLUMNS = {"loss": ".4f", "explained_variance": ".3f", "l0": ".1f", "dead": ".1%"}


def _row(line: Mapping[str, Any]) -> dict[str, str]:
    numbers = {
        name.replace("_", " "): format(line[name], form)
        for name, form in _COLUMNS.items()
        if line.get(name) is not None
    }
    return {"dictionary": str(line.get("name", "all")), **numbers}
