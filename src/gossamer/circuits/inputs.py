"""What a circuit was made with, as its file records it: enough to find the same inputs again and to know that they are.

Sources stay as the user gave them, so that a path that is relative stays so; names for readers are elsewhere
(`Circuit.model`, `Circuit.task`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gossamer import bundled
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.metric import METRICS
from gossamer.tasks.task import Task

BUNDLED = "bundled:"


@dataclass(frozen=True)
class ModelInput:
    """The model.

    Attributes:
        source: as :meth:`gossamer.model.language_model.LanguageModel.load` took it.
        sha256: of its weights; None where they were not in memory.
        dtype, device: what it ran on; "" where that is not known.
    """

    source: str
    sha256: str | None
    dtype: str
    device: str

    __repr__ = short_repr


@dataclass(frozen=True)
class DictionaryInput:
    """A dictionary: its source (None where it was made in Python), the hash of its weights and their type."""

    source: str | None
    sha256: str | None
    dtype: str

    __repr__ = short_repr


@dataclass(frozen=True)
class Inputs:
    """Model, dictionaries by site, and the task with all its prompts.

    Attributes:
        model: the model.
        dictionaries: by site, in the order of the network.
        task: as :meth:`gossamer.tasks.task.Task.body` gives it; None for a metric of the user's own.
    """

    model: ModelInput
    dictionaries: Mapping[str, DictionaryInput]
    task: Mapping[str, Any] | None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.source
        yield f"dictionaries at {listed(self.dictionaries)}"
        yield "no task" if self.task is None else f"task {self.task['name']}"

    @classmethod
    def of(cls, model: LanguageModel, dictionaries: Mapping[Site, Dictionary], task: Task) -> "Inputs":
        """What is needed to find these again."""
        kind = str(model.dtype).removeprefix("torch.")
        return cls(
            ModelInput(model.name, weights_sha256(model.hf), kind, str(model.device)),
            {str(site): _of_dictionary(one) for site, one in dictionaries.items()},
            task.body() if METRICS.get(task.metric.name) is task.metric else None,
        )


def _of_dictionary(dictionary: Dictionary) -> DictionaryInput:
    source = dictionary.provenance.get("source")
    kind = str(dictionary.W_dec.dtype).removeprefix("torch.")
    return DictionaryInput(None if source is None else _portable(str(source)), weights_sha256(dictionary), kind)


def _portable(source: str) -> str:
    """What came with the package is found by its name on another machine as well."""
    home = bundled.home()
    return BUNDLED + Path(source).relative_to(home).as_posix() if Path(source).is_relative_to(home) else source


def located(source: str, beside: Path | None) -> str:
    """Where `source` is now: as it is recorded, or seen from the folder of the file that records it.

    Raises:
        UsageError: what comes with the package does not hold it.
    """
    if source.startswith(BUNDLED) and "/" in source:
        name, _, rest = source.removeprefix(BUNDLED).partition("/")
        found = (bundled.path(name) / rest).resolve()
        if not found.is_relative_to(bundled.home().resolve()):
            raise UsageError(f"{source}: a folder of the bundled model expected")
        return str(found)
    if beside is not None and not Path(source).exists() and (beside / source).exists():
        return str(beside / source)
    return source


def recorded_model(
    known: ModelInput, *, beside: Path | None, device: str | torch.device | None = None
) -> LanguageModel:
    """Load a model from where it is recorded to be, in the type that it had.

    Raises:
        GossamerError: it is not there any more.
    """
    source, kind = located(known.source, beside), getattr(torch, known.dtype) if known.dtype else None
    try:
        return LanguageModel.load(source, dtype=kind, device=device)
    except UsageError as error:
        raise GossamerError(f"the recorded model {source}: not found ({error}); give --model (model=)") from error


def require_same(what: str, source: str, recorded: str | None, found: str | None, option: str) -> None:
    """Refuse weights that were to be recorded ones, by their SHA-256, and are not; None: not known.

    Raises:
        GossamerError: they have changed.
    """
    if None not in (recorded, found) and recorded != found:
        raise GossamerError(
            f"{what} {source}: weights with SHA-256 {str(recorded)[:12]}… expected, found {str(found)[:12]}…; they "
            f"have changed since they were recorded: restore them, or give {option} to go on with these"
        )
