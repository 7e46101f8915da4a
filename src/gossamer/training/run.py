"""A training loop that can be killed at any moment and goes on to the same result."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from gossamer.progress import begin
from gossamer.training import metrics
from gossamer.training.checkpoint import Checkpoint


@runtime_checkable
class Job(Protocol):
    """What is trained: everything that changes is in its state, everything else follows from the settings."""

    def begin(self) -> None:
        """Start from nothing."""

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Start from what `state` returned."""

    def state(self) -> dict[str, Tensor]:
        """Everything that changes."""

    def step(self, step: int) -> tuple[int, list[dict[str, Any]]]:
        """Do step number `step`; returns tokens used and lines for metrics.jsonl."""


def finish(job: Job, what: str, steps: int, folder: Path, settings: dict[str, Any], checkpoint_every: int) -> None:
    """Run the job's steps that are still to do, from the checkpoint in `folder` if there is one.

    `settings["log_every"]` says how many steps lie between lines of metrics.jsonl.

    Raises:
        UsageError: the checkpoint belongs to a run with other settings.
        GossamerError: the checkpoint is damaged.
    """
    stored = Checkpoint.load(folder, settings)
    if stored is None:
        job.begin()
    else:
        job.resume(stored.tensors)
    done = 0 if stored is None else stored.step
    metrics.rewind(folder, done)
    advance = begin(what, steps)
    advance(done, "")
    tokens, since = 0, time.monotonic()
    for step in range(done, steps):
        used, lines = job.step(step)
        tokens += used
        if step % settings["log_every"] == 0 or step + 1 == steps:
            rate = round(tokens / max(time.monotonic() - since, 1e-9))
            metrics.append(folder, [{"step": step, **line, "tokens_per_second": rate} for line in lines])
            tokens, since = 0, time.monotonic()
        if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
            Checkpoint(step + 1, job.state(), settings).save(folder)
        advance(1, f"loss {lines[0]['loss']:.4f}")
