"""Where a file came from, what a caller may add to what it says, and how the two are reconciled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from gossamer.dictionary.formats.weights import sha256
from gossamer.errors import UsageError
from gossamer.model.site import Site

Fact = TypeVar("Fact")


@dataclass(frozen=True)
class Origin:
    """Where files came from.

    Attributes:
        source: the reference as the user wrote it, a path or `hub:owner/repo/path`; its words may name model and layer.
        revision: commit of a hub repository.
    """

    source: str
    revision: str | None = None


@dataclass(frozen=True)
class Request:
    """Facts given by the caller of a load; see :meth:`gossamer.dictionary.dictionary.Dictionary.load`."""

    site: Site | None = None
    model_name: str | None = None
    norm_scaling_factor: float | None = None
    activations: Tensor | None = None
    shapes_only: bool = False


def agreed(what: str, in_file: Fact | None, asked: Fact | None, where: object) -> Fact | None:
    """The fact that file and caller agree on; either may be silent.

    Raises:
        UsageError: they contradict each other.
    """
    if in_file is not None and asked is not None and in_file != asked:
        raise UsageError(f"{where}: the file's {what} is {in_file}, you asked for {asked}; leave {what} out")
    return asked if in_file is None else in_file


def provenance(
    origin: Origin, format: str, weights: Path, request: Request, training: dict[str, Any], earlier: dict[str, Any]
) -> dict[str, Any]:
    """The provenance of a dictionary just read.

    `training` are the facts of its training that the file holds, `earlier` the provenance it had when gossamer wrote
    it: the first file it came from stays known as `derived_from`. No hash is taken when only shapes are read.
    """
    facts = {
        **earlier,
        "source": origin.source,
        "format": format,
        "sha256": None if request.shapes_only else sha256(weights),
        "training": {**training, **earlier.get("training", {})},
    }
    facts.pop("revision", None)
    if origin.revision is not None:
        facts["revision"] = origin.revision
    if "source" in earlier and "derived_from" not in earlier:
        facts["derived_from"] = {key: earlier.get(key) for key in ("source", "format", "sha256", "revision")}
    return facts
