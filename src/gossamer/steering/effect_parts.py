"""Effects of steering, measured once: parts on disk, behind which a stopped measurement goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json, write_json
from gossamer.model.fingerprint import arrays_sha256
from gossamer.progress import begin, silenced
from gossamer.tensor_files import write_tensors

# Directions of a part: what a kill loses at most.
PART = 32
_SETTINGS = "effects.json"

Measure = Callable[[Float[Tensor, "some d"]], Float[Tensor, "some n"]]


def measured_in_parts(
    directions: Float[Tensor, "directions d"],
    measure: Measure,
    folder: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Float[Tensor, "directions n"]:
    """`measure` of all directions, `PART` of them at a time.

    With a `folder`, each part is a file there with the hash of its numbers, and what is there is not measured again.
    Disk: 4 bytes a direction and feature.

    Args:
        settings: all that the numbers depend on; a folder goes on under the same ones only.

    Raises:
        UsageError: the folder holds effects of other settings, or cannot be written.
        GossamerError: a part is damaged.
    """
    place = None if folder is None else Path(folder)
    if place is not None:
        _require_same(place / _SETTINGS, {**(settings or {}), "directions": arrays_sha256([directions.cpu().numpy()])})
    advance, found = begin("effects of directions", len(directions)), []
    for number, part in enumerate(torch.split(directions, PART)):
        path = None if place is None else place / f"effects-{number:05d}.safetensors"
        if path is None or not path.exists():
            with silenced():
                effects = measure(part)
            if path is not None:
                write_tensors(path, {"effects": effects}, {"sha256": arrays_sha256([effects.numpy()])})
        else:
            effects = _read(path, len(part))
        found.append(effects)
        advance(len(part), "")
    return torch.cat(found)


def _require_same(path: Path, settings: Mapping[str, Any]) -> None:
    if path.exists():
        before = read_json(path)
        if not isinstance(before, dict):
            raise GossamerError(f"{path}: settings of effects expected, found none; delete the folder")
        differ = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
        if differ:
            raise UsageError(
                f"{path.parent}: effects measured with the same {differ[0]} expected, found {before.get(differ[0])!r}, "
                f"not {settings.get(differ[0])!r}; give another folder"
            )
        return
    write_json(path, dict(settings))


def _read(path: Path, count: int) -> Float[Tensor, "some n"]:
    try:
        with safe_open(path, "pt") as file:
            effects, expected = file.get_tensor("effects"), (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        raise GossamerError(f"{path}: damaged ({error}); delete it, and it is measured again") from error
    if len(effects) != count or arrays_sha256([effects.numpy()]) != expected:
        raise GossamerError(f"{path}: damaged (other numbers than were written); delete it, and it is measured again")
    return effects
