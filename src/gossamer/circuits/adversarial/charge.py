"""What it took to know the circuit, in the searches' own coin."""

from collections.abc import Mapping
from typing import Any

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.find import passes_to_find
from gossamer.circuits.search import SearchSettings
from gossamer.model.cost import pass_operations
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import resumable
from gossamer.tasks.task import Task


def discovery_passes(circuit: Circuit, model: LanguageModel, task: Task) -> float | None:
    """Forward passes of one prompt through the whole model that finding a circuit took, about.

    An estimate, the one that is told before a search: passes through a part of the layers count as their share of the
    operations. None where the circuit's file does not say how it was searched.
    """
    known = circuit.provenance
    search = _search(known.get("method_settings", {}))
    if known.get("method") != "mask" or search is None or not circuit.sites:
        return None
    examples = task.train.select(range(min(int(known.get("prompts", len(task.train))), len(task.train))))
    start: Site = resumable(min(circuit.sites))
    searches = 2 if known.get("validation") else 1
    passes = passes_to_find(model, start, examples, search, len(circuit.nodes), searches)
    first = (start.layer or 0) + (start.kind == "resid_post")
    return passes * pass_operations(model, first) / max(pass_operations(model), 1.0)


def _search(settings: Mapping[str, Any]) -> SearchSettings | None:
    """The mask search's settings that its cost depends on."""
    try:
        return SearchSettings(steps=int(settings["steps"]), batch_size=int(settings["batch_size"]))
    except (KeyError, ValueError, TypeError):
        return None
