"""What circuits of families of prompts come to: plain numbers (:mod:`gossamer.circuits.families.search`)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.circuits.circuit_numbers import CircuitNumbers
from gossamer.circuits.overlap import Overlap
from gossamer.circuits.task_metrics import circuit_mark
from gossamer.display import plural, short_repr
from gossamer.features.feature import Node
from gossamer.statistics import Interval


@dataclass(frozen=True)
class PromptFamily:
    """Prompts that have a circuit of their own, of at most as many nodes as that of all prompts.

    Attributes:
        name: what they have in common.
        training, held_out: how many prompts it has of each.
        nodes: its circuit.
        shared: Jaccard index with the circuit of all prompts.
        agreement: mean Jaccard index of the searches on samples of its prompts, with its jackknife interval; None:
            none were made.
        own: its circuit on its own held-out prompts.
        others: its circuit on those of all other families.
        whole: the circuit of all prompts on its held-out prompts.
        dictionaries, dictionaries_others: faithfulness of the dictionaries with all of their latents on its held-out
            prompts, and on those of all other families.
    """

    name: str
    training: int
    held_out: int
    nodes: tuple[Node, ...]
    shared: float
    agreement: Interval | None
    own: CircuitNumbers
    others: CircuitNumbers
    whole: CircuitNumbers
    dictionaries: float = math.nan
    dictionaries_others: float = math.nan

    __repr__ = short_repr

    @property
    def marks(self) -> tuple[str, str, str]:
        """What stands beside the faithfulness of own, others and whole."""
        kept = (self.dictionaries, self.dictionaries_others, self.dictionaries)
        own, others, whole = (
            circuit_mark(one.faithfulness.value, of)
            for one, of in zip((self.own, self.others, self.whole), kept, strict=True)
        )
        return own, others, whole

    def _facts(self) -> Iterator[str]:
        yield repr(self.name)
        yield f"{plural(len(self.nodes), 'node')}"
        yield f"faithfulness {self.own.faithfulness.value:.3g}, on others {self.others.faithfulness.value:.3g}"


@dataclass(frozen=True)
class Families:
    """A circuit for each family of a task's prompts, searched for as that of all prompts.

    Attributes:
        by: what families are made by.
        size: the most nodes of each circuit.
        families: the one with the most training prompts first.
        overlap: of their circuits with one another and with that of all prompts.
        left_out: names of families with too few prompts to be searched or tested.
        silhouette: of clusters, mean over prompts (Rousseeuw 1987): 1 apart, 0 overlapping; NaN for labels.
    """

    by: str
    size: int
    families: tuple[PromptFamily, ...]
    overlap: Overlap
    left_out: tuple[str, ...] = ()
    silhouette: float = math.nan

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"by {self.by}"
        yield f"{plural(len(self.families), 'family', 'families')}"
