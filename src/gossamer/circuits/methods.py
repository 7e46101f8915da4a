"""Every way to a size-faithfulness path, by name, on the same footing: one network, one ablation, the same prompts."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
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
from gossamer.display import short_repr
from gossamer.tasks.split import Split

Score = Callable[[Splice], Tensor]


@dataclass(frozen=True)
class Prompts:
    """A network over some prompts, masks over the candidates, and the full model on the same prompts."""

    splice: Splice
    full: FullModel

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.splice)

    def on(self, rows: Int[Tensor, "rows"]) -> "Prompts":
        """Some of the prompts only."""
        return Prompts(self.splice.on(rows), self.full.on(rows))


@dataclass(frozen=True)
class MethodInputs:
    """What every method is given. Methods that make no choices have all training prompts to score nodes on.

    Attributes:
        training: all training prompts.
        fitted: those that masks are fitted to.
        validation: those that choices between circuits are made on; None: the fitted ones.
        search: settings of the mask search; its sizes are everyone's.
        scores: scores of the nodes with the seconds they took, by the function that gave them: computed once for all
            rankings of them.
    """

    training: Prompts
    fitted: Prompts
    validation: Prompts | None
    search: SearchSettings
    scores: dict[Score, tuple[Tensor, float]] = field(default_factory=dict)

    __repr__ = short_repr

    @classmethod
    def divided(cls, training: Prompts, sides: Split | None, search: SearchSettings) -> "MethodInputs":
        """All training prompts, divided in those to fit and those to choose on; None: all are both."""
        if sides is None:
            return cls(training, training, None, search)
        device = training.splice.model.device
        fitted, chosen = (
            training.on(torch.tensor(rows, dtype=torch.long, device=device)) for rows in (sides.train, sides.test)
        )
        return cls(training, fitted, chosen, search)

    def scored(self, score: Score) -> tuple[Tensor, float]:
        """The scores of `score` and the seconds they took."""
        if score not in self.scores:
            began = time.perf_counter()
            found = score(self.training.splice)
            self.scores[score] = (found, time.perf_counter() - began)
        return self.scores[score]

    def polish(self, path: Path | None = None) -> Polish:
        """The exact last steps, over the nodes of `path` or the candidates."""
        loss, check = self.search.loss, None
        if self.validation is not None:
            check = Polish(_over(self.validation.splice, path), self.validation.full, loss)
        return Polish(_over(self.fitted.splice, path), self.fitted.full, loss, validation=check)


def _over(splice: Splice, path: Path | None) -> Splice:
    return splice if path is None else splice.over(path.nodes)


Method = Callable[[MethodInputs], Path]


def mask_path(given: MethodInputs) -> Path:
    """The mask search, with its circuits improved by exact steps."""
    return given.polish().improved(search_path(given.fitted.splice, given.fitted.full, given.search))


def _reference(given: MethodInputs) -> Path:
    splice = given.training.splice
    return reference_path(splice.over(every_node(splice.dictionaries, splice.nodes.roles, splice.model.device)))


def _ranked(name: str, score: Score, by: str = "global", signed: bool = False) -> Method:
    def path(given: MethodInputs) -> Path:
        scores, seconds = given.scored(score)
        nodes = given.training.splice.nodes
        sizes = Path.ranking_sizes(given.search.sizes, len(nodes))
        return Path.from_order(name, nodes, ranking(scores, nodes, by, signed), sizes, seconds, scores)

    return path


def _rankings(name: str, score: Score, *thresholds: str) -> dict[str, Method]:
    """A score ranked by size and by sign, with each kind of threshold."""
    found = {}
    for by in thresholds:
        for signed in (False, True):
            full = name + (" by site" if by == "site" else "") + (", signed" if signed else "")
            found[full] = _ranked(full, score, by, signed)
    return found


METHODS: Mapping[str, Method] = {
    "mask": mask_path,
    "reference recipe": _reference,
    **_rankings("integrated gradients", integrated_gradients, "global", "site"),
    **_rankings("attribution patching", attribution_patching, "global"),
    "activation difference": _ranked("activation difference", activation_difference),
    "random": _ranked("random", random_scores),
}
