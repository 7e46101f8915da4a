"""Checkpoints: one safetensors file, replaced as a whole, whose header holds the JSON beside the tensors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gossamer.errors import GossamerError, UsageError
from gossamer.results.difference import difference
from gossamer.tensor_files import write_tensors
from gossamer.training.older import with_present_names

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped.

    Attributes:
        step: optimiser steps done.
        tensors: parameters, optimiser moments, counters.
        settings: what the run was asked to do; a run asked otherwise must not go on from here.
    """

    step: int
    tensors: dict[str, Tensor]
    settings: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Replace the folder's checkpoint: after a crash the old one or the new one is there, never half of one."""
        facts = {"step": self.step, "settings": self.settings}
        tensors = {name: tensor.detach().cpu() for name, tensor in self.tensors.items()}
        write_tensors(folder / FILE, tensors, {"gossamer": json.dumps(facts, sort_keys=True)})

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> "Checkpoint | None":
        """The folder's checkpoint, or None if it has none.

        Raises:
            UsageError: it belongs to a run with other settings.
            GossamerError: the file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as stored:
                facts = json.loads((stored.metadata() or {})["gossamer"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
                found = cls(int(facts["step"]), tensors, with_present_names(facts["settings"]))
        except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
            raise GossamerError(
                f"{path}: expected a checkpoint, found damage ({error}); delete it to start again"
            ) from error
        # Through JSON, because a tuple comes back as a list.
        if found.settings != json.loads(json.dumps(settings)):
            raise UsageError(
                f"{path}: belongs to a run with other settings ({difference(found.settings, settings)}); "
                "use the same settings or another folder"
            )
        return found
