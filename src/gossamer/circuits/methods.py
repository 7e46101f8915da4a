"""Every way to a size-faithfulness path, by name, on the same footing: one network, one ablation, the same prompts."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

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
from gossamer.circuits.bootstrap import resampled_rows
from gossamer.circuits.candidates import every_node
from gossamer.circuits.cost import affordable, first_prompts
from gossamer.circuits.greedy import greedy_path
from gossamer.circuits.input_gradients import input_gradients
from gossamer.circuits.levelling import LEAST_LEVELLED
from gossamer.circuits.loss import Loss
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.reference import reference_path
from gossamer.circuits.refine import CircuitRefiner
from gossamer.circuits.relevance import relevance
from gossamer.circuits.search import SearchSettings, search_path, search_sizes
from gossamer.circuits.splice import Splice
from gossamer.circuits.synergy import synergy_path
from gossamer.circuits.unseen import Unseen
from gossamer.display import short_repr
from gossamer.progress import part_of
from gossamer.tasks.split import Split

Score = Callable[[Splice], Tensor]


@dataclass(frozen=True)
class MaskedPrompts:
    """A network over some prompts, masks over the candidates, and the full model on the same prompts."""

    splice: Splice
    full: FullModel

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.splice)

    def select(self, rows: Int[Tensor, "rows"]) -> "MaskedPrompts":
        """Some of the prompts only."""
        return MaskedPrompts(self.splice.select(rows), self.full.select(rows))

    def resampled(self, seed: int) -> Int[Tensor, "rows"]:
        """The rows of a bootstrap sample, whole texts at a time."""
        return resampled_rows(self.splice.examples, seed).to(self.splice.model.device)


@dataclass(frozen=True)
class MethodInputs:
    """What every method is given. Nodes are ranked, and masks are fitted, on all training prompts.

    Masks know only the names that they were fitted to: on those of a smaller vocabulary they generalise less.

    Attributes:
        training: all training prompts.
        fitted: those that the exact steps after a search start from.
        validation: those that these steps are checked on, with other names or templates; None: the fitted ones.
        search: settings of the mask search; its sizes are everyone's.
        sides: the rows of `training` that are fitted and that are chosen on; None: all are both.
        scores: scores of the nodes with the seconds they took, by the function that gave them: computed once for all
            rankings of them.
        apart: paths that were searched without the validation prompts, by the settings but for sizes.
        sample_of: the inputs that these are a sample of.
    """

    training: MaskedPrompts
    fitted: MaskedPrompts
    validation: MaskedPrompts | None
    search: SearchSettings
    sides: Split | None = None
    scores: dict[Score, tuple[Tensor, float]] = field(default_factory=dict)
    apart: dict[SearchSettings, CircuitPath] = field(default_factory=dict)
    sample_of: "MethodInputs | None" = None

    __repr__ = short_repr

    @classmethod
    def divided(cls, training: MaskedPrompts, sides: Split | None, search: SearchSettings) -> "MethodInputs":
        """All training prompts, divided in those to fit and those to choose on; None: all are both."""
        if sides is None:
            return cls(training, training, None, search)
        fitted, chosen = (training.select(_rows(rows, training)) for rows in (sides.train, sides.test))
        return cls(training, fitted, chosen, search, sides)

    def sampled(self, draw: Callable[[MaskedPrompts], Int[Tensor, "rows"]]) -> "MethodInputs":
        """The same with prompts that `draw` takes, by their rows, of each side."""
        if self.sides is None or self.validation is None:
            return MethodInputs.divided(self.training.select(draw(self.training)), None, self.search)
        fitted, chosen = (
            _rows(rows, self.training)[draw(side)]
            for rows, side in ((self.sides.train, self.fitted), (self.sides.test, self.validation))
        )
        n, both = len(fitted), torch.cat([fitted, chosen])
        sides = Split(tuple(range(n)), tuple(range(n, len(both))), ())
        return replace(MethodInputs.divided(self.training.select(both), sides, self.search), sample_of=self)

    @property
    def held_apart(self) -> "MethodInputs":
        """The same without the validation prompts in the search: what a circuit keeps there is then no fit."""
        return replace(self, training=self.fitted, sides=None, scores={})

    def searched_apart(self, least: int = 1) -> CircuitPath:
        """The mask search without the validation prompts, down to circuits of `least` nodes or fewer; once for all.

        Of a sample too it is the search on all of its prompts.
        """
        if self.sample_of is not None:
            return self.sample_of.searched_apart(least)
        key, sizes = replace(self.search, sizes=()), search_sizes(self.search, len(self._nodes))
        if key not in self.apart or self.apart[key].sizes[-1] > max(least, sizes[-1]):
            with part_of("without validation prompts"):
                self.apart[key] = searched(self.held_apart, 1 + sum(size > least for size in sizes))
        return self.apart[key]

    def _unseen(self, refiner: CircuitRefiner) -> Unseen | None:
        """What circuits do on the validation prompts that were searched without them; None: that is not known."""
        # The published recipe's nodes are all latents, and no search of ours is among these.
        if self.sides is None or refiner.validation is None or len(refiner.splice.nodes) != len(self._nodes):
            return None
        path = self.searched_apart(LEAST_LEVELLED)
        return Unseen.of([(len(circuit), refiner.validation.found(circuit)[1]) for circuit in path.circuits])

    @property
    def _nodes(self) -> Nodes:
        return self.training.splice.nodes

    def scored(self, score: Score) -> tuple[Tensor, float]:
        """The scores of `score` and the seconds they took."""
        if score not in self.scores:
            began = time.perf_counter()
            found = score(self.training.splice)
            self.scores[score] = (found, time.perf_counter() - began)
        return self.scores[score]

    def refiner(self, path: CircuitPath | None = None) -> CircuitRefiner:
        """The exact last steps, over the nodes of `path` or the candidates."""
        check = None if self.validation is None else _refiner(self.validation, path, self.search.loss, None)
        refiner = _refiner(self.fitted, path, self.search.loss, check)
        unseen, orders = partial(self._unseen, refiner), partial(_orders, _over(self.training.splice, path))
        return replace(refiner, unseen=cache(unseen), rankings=cache(orders))


def _orders(splice: Splice) -> list[Int[Tensor, "node"]]:
    """The order that the circuits of a mask have to be as good as, for one gradient a prompt."""
    # A distance has no gradient at the model itself, where attribution patching takes it.
    return [] if splice.examples.metric.distance else [ranking(attribution_patching(splice), splice.nodes, signed=True)]


def _rows(rows: Sequence[int], prompts: MaskedPrompts) -> Int[Tensor, "rows"]:
    return torch.tensor(rows, dtype=torch.long, device=prompts.splice.model.device)


def _refiner(
    prompts: MaskedPrompts, path: CircuitPath | None, loss: Loss, check: CircuitRefiner | None
) -> CircuitRefiner:
    splice = _over(prompts.splice, path)
    used, left_out = affordable(splice, 256, 64), affordable(splice, 256, 24)
    return CircuitRefiner(splice, prompts.full, loss, used, left_out, check)


def _over(splice: Splice, path: CircuitPath | None) -> Splice:
    return splice if path is None else splice.with_nodes(path.nodes)


Method = Callable[[MethodInputs], CircuitPath]


def searched(given: MethodInputs, only: int | None = None) -> CircuitPath:
    """The mask search by itself, or `only` so many of its circuits, the largest."""
    return search_path(given.training.splice, given.training.full, given.search, only=only)


def mask_path(given: MethodInputs) -> CircuitPath:
    """The mask search, its circuits improved by exact steps, without those that a smaller one clearly betters."""
    refiner = given.refiner()
    return refiner.undominated(refiner.improved(searched(given)))


def mask_circuit(given: MethodInputs, place: int) -> Int[Tensor, "chosen"]:
    """The circuit at one place of the path of the mask search, improved by exact steps as with the whole path."""
    # Smaller circuits, and steps on the way to them, matter to one that overshoots alone.
    path = searched(given, place + 1)
    refiner = given.refiner(path)
    found = refiner.swap(path.circuits[place])
    if not refiner.overshoots(found):
        return found
    path = searched(given)
    return refiner.improved_at(path, path.sizes[place]).circuits[place]


def _greedy(given: MethodInputs) -> CircuitPath:
    return greedy_path(_refiner(given.training, None, given.search.loss, None), list(given.search.sizes))


def _reference(given: MethodInputs) -> CircuitPath:
    splice = given.training.splice
    return reference_path(splice.with_nodes(every_node(splice.dictionaries, splice.nodes.roles, splice.model.device)))


def _ranked(name: str, score: Score, by: str = "global", signed: bool = False) -> Method:
    def path(given: MethodInputs) -> CircuitPath:
        scores, seconds = given.scored(score)
        nodes = given.training.splice.nodes
        sizes = CircuitPath.ranking_sizes(given.search.sizes, len(nodes))
        return CircuitPath.from_order(name, nodes, ranking(scores, nodes, by, signed), sizes, seconds, scores)

    return path


def _synergy(signed: bool) -> Method:
    def path(given: MethodInputs) -> CircuitPath:
        scores, seconds = given.scored(attribution_patching)
        splice = given.training.splice
        # Hundreds of passes of these prompts follow.
        few = splice.select(first_prompts(splice, affordable(splice, 64, 16)))
        found = synergy_path(few, scores, given.search.sizes, signed=signed)
        return replace(found, seconds=found.seconds + seconds)

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
    **_rankings("EAP-IG inputs", input_gradients, "global"),
    **_rankings("attribution patching", attribution_patching, "global"),
    **_rankings("RelP", relevance, "global"),
    "activation difference": _ranked("activation difference", activation_difference),
    "random": _ranked("random", random_scores),
    "FAP-Synergy": _synergy(signed=False),
    "FAP-Synergy, signed": _synergy(signed=True),
    "greedy": _greedy,
}
# Of small circuits only, and too dear to be drawn unless they are asked for.
ASKED_FOR = ("FAP-Synergy", "FAP-Synergy, signed", "greedy")
