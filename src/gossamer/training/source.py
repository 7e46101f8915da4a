"""Where the loop gets its activations: one protocol, behind it a model, a cache on disk, or plain tensors.

A source is a sequence of turns without end. A turn is some activations in some order; a batch is the next so many of
them, and what is left at a turn's end, less than a batch, is dropped. Everything follows from the index of the turn, so
that a run which resumes asks for the turn it stopped in instead of keeping gigabytes in its checkpoints.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.training.parallel import Processes

# Rows are tokens, the same at every site; sites may differ in width.
Activations = Mapping[Site, Float[Tensor, "_ _"]]


@dataclass(frozen=True)
class TurnPlace:
    """Where a run stands: the next batch to use is number `batch` of turn number `turn`."""

    turn: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Turn:
    """Some activations in the order in which they are used.

    Attributes:
        tokens: how many, those of other processes included.
        take: of the activations from one number to another, in the turn's order, those that are this process's to use.
    """

    tokens: int
    take: Callable[[int, int], Activations]


@runtime_checkable
class ActivationSource(Protocol):
    """Activations at some sites, the same sequence whenever it is asked for.

    Attributes:
        sites: where the activations are from.
        facts: what the sequence depends on; a checkpoint of a run on other facts is refused.
        model_name: the model they are of, if one is known.
        device: where they are.
    """

    @property
    def sites(self) -> Sequence[Site]:
        """See above."""

    @property
    def model_name(self) -> str | None:
        """See above."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """See above."""

    @property
    def device(self) -> torch.device:
        """See above."""

    def first(self) -> Activations:
        """Some activations of the sequence, the same for every process: starting values are taken from them."""

    def turn(self, index: int) -> Turn:
        """Turn number `index`."""


def batches(
    source: ActivationSource, place: TurnPlace, batch: int, parts: int = 1
) -> Iterator[tuple[TurnPlace, list[Activations]]]:
    """Batches of `batch` activations from `place` on, without end, each in `parts` and with the place of the next one.

    Raises:
        UsageError: a whole turn has less than one batch, or this process has nothing to do in a part of one.
    """
    while True:
        turn = source.turn(place.turn)
        whole = turn.tokens // batch
        if whole == 0:
            raise UsageError(
                f"{turn.tokens} activations at a time are less than a batch of {batch}: "
                "give more text, a larger buffer or a smaller batch"
            )
        for number in range(place.batch, whole):
            after = TurnPlace(place.turn, number + 1) if number + 1 < whole else TurnPlace(place.turn + 1)
            bounds = [number * batch + batch * part // parts for part in range(parts + 1)]
            yield after, [_some(turn.take(*pair)) for pair in itertools.pairwise(bounds)]
        place = TurnPlace(place.turn + 1)


def _some(part: Activations) -> Activations:
    if not len(next(iter(part.values()))):
        raise UsageError("a part of a batch has no activation for every process: give a larger batch or fewer parts")
    return part


def ordered(values: Activations, order: Int[Tensor, "tokens"] | None, processes: Processes) -> Turn:
    """A turn over activations that every process has, each of which uses its equal share of every batch.

    `order` says which comes when; None: as they stand, which reads them one after the other.
    """
    tokens = len(next(iter(values.values()))) if order is None else len(order)

    def take(start: int, stop: int) -> Activations:
        first, last = (start + (stop - start) * rank // processes.count for rank in processes.share)
        if order is None:
            return {site: value[first:last] for site, value in values.items()}
        return {site: value[order[first:last].to(value.device)] for site, value in values.items()}

    return Turn(tokens, take)


def owned(values: Activations, order: Int[Tensor, "tokens"], places: Int[Tensor, "tokens"]) -> Turn:
    """A turn over activations of which this process has some: number i at `places[i]`, -1 if another has it."""

    def take(start: int, stop: int) -> Activations:
        chosen = places[order[start:stop]]
        chosen = chosen[chosen >= 0]
        return {site: value[chosen.to(value.device)] for site, value in values.items()}

    return Turn(len(order), take)
