"""Other places than metrics.jsonl where numbers may go: Weights & Biases, TensorBoard. Imported only when asked for."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gossamer.errors import UsageError


@runtime_checkable
class MetricLogger(Protocol):
    """Takes the same records as metrics.jsonl."""

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take the lines of one step."""

    def close(self) -> None:
        """Send what is left."""


class TensorBoard:
    """Event files for TensorBoard in `folder`/tensorboard. Needs the package `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError: the package is not installed."""
        module = _imported("torch.utils.tensorboard", "tensorboard")
        self.writer = module.SummaryWriter(str(folder / "tensorboard"))

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """One scalar a number."""
        for name, value, step in scalars(records):
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class Wandb:
    """One run of Weights & Biases for all dictionaries. Needs the package `wandb`, and heeds its WANDB_PROJECT."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError: the package is not installed."""
        folder.mkdir(parents=True, exist_ok=True)
        self.run = _imported("wandb", "wandb").init(dir=str(folder), name=folder.resolve().parent.name)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """All numbers of the step together."""
        found = scalars(records)
        if found:
            self.run.log({name: value for name, value, _ in found}, step=found[0][2])

    def close(self) -> None:
        """End the run."""
        self.run.finish()


LOGGERS: dict[str, Callable[[Path], MetricLogger]] = {"tensorboard": TensorBoard, "wandb": Wandb}


def require_known(names: Sequence[str]) -> None:
    """Raise :class:`UsageError` if there is no logger of one of the names."""
    if unknown := [name for name in names if name not in LOGGERS]:
        raise UsageError(f"metrics: expected {' or '.join(LOGGERS)}, found {unknown[0]!r}")


def opened(names: Sequence[str], folder: Path) -> list[MetricLogger]:
    """The loggers of these names.

    Raises:
        UsageError: there is none of the name, or its package is not installed or does not start.
    """
    require_known(names)
    return [_started(name, folder) for name in names]


def _started(name: str, folder: Path) -> MetricLogger:
    try:
        return LOGGERS[name](folder)
    except UsageError:
        raise
    except Exception as error:  # each package has errors of its own: no key, no network
        found = " ".join(str(error).split())
        raise UsageError(f"metrics to {name}: could not start ({found}); mend that or leave --metrics out") from error


def scalars(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, int]]:
    """The numbers of some records as (dictionary/quantity, value, step)."""
    return [
        ("/".join(filter(None, (record.get("name"), key))), float(value), int(record["step"]))
        for record in records
        for key, value in record.items()
        if isinstance(value, int | float) and key != "step"
    ]


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"metrics to {package}: the package is not installed; 'pip install {package}'") from error
