"""Every way to a size-faithfulness path, by name, on the same footing: one network, one ablation, the same prompts."""

import time
from collections.abc import Callable, Mapping

from torch import Tensor

from gossamer.circuits.attribution import (
    activation_difference,
    attribution_patching,
    integrated_gradients,
    random_scores,
    ranking,
)
from gossamer.circuits.candidates import every_node
from gossamer.circuits.outcome import FullModel
from gossamer.circuits.path import Path
from gossamer.circuits.prune import Polish
from gossamer.circuits.reference import reference_path
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.splice import Splice

Method = Callable[[Splice, FullModel, SearchSettings], Path]


def _mask(splice: Splice, full: FullModel, search: SearchSettings) -> Path:
    return Polish(splice, full, search.loss).improved(search_path(splice, full, search))


def _reference(splice: Splice, full: FullModel, search: SearchSettings) -> Path:
    return reference_path(splice.over(every_node(splice.dictionaries, splice.nodes.roles, splice.model.device)))


def _ranked(name: str, score: Callable[[Splice], Tensor], by: str = "global") -> Method:
    def path(splice: Splice, full: FullModel, search: SearchSettings) -> Path:
        began = time.perf_counter()
        scores = score(splice)
        order = ranking(scores, splice.nodes, by)
        return Path.from_order(name, splice.nodes, order, search.sizes, time.perf_counter() - began, scores)

    return path


METHODS: Mapping[str, Method] = {
    "mask": _mask,
    "reference recipe": _reference,
    "integrated gradients": _ranked("integrated gradients", integrated_gradients),
    "integrated gradients by site": _ranked("integrated gradients by site", integrated_gradients, "site"),
    "attribution patching": _ranked("attribution patching", attribution_patching),
    "activation difference": _ranked("activation difference", activation_difference),
    "random": _ranked("random", random_scores),
}
