"""What a group of nodes is, and what a test of groups says: plain numbers (see :mod:`gossamer.circuits.groups`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gossamer.display import plural, short_repr
from gossamer.features.feature import Node
from gossamer.statistics import Interval

MadeBy = Literal["profiles", "loss"]


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of one site that stand as one box in a picture.

    Attributes:
        nodes: two or more, those that matter most first.
        label: words that their cards share, or what the first is said to be.
        effect: faithfulness lost when the whole group is ablated.
    """

    nodes: tuple[Node, ...]
    label: str
    effect: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.label
        yield plural(len(self.nodes), "node")
        yield f"effect {self.effect:.3g}"


@dataclass(frozen=True)
class GroupPoint:
    """A circuit whose nodes move in so many boxes, on held-out prompts.

    Attributes:
        boxes: groups and nodes that are alone.
        tied: faithfulness when every group moves as one (:mod:`gossamer.circuits.groups.tied`).
        random: mean of the same of random groups of the same sizes at the same sites; `draws` are its parts.
    """

    boxes: int
    tied: Interval
    random: Interval
    draws: tuple[float, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.boxes, "box", "boxes")
        yield f"tied {self.tied.value:.3g}, random {self.random.value:.3g}"


@dataclass(frozen=True)
class GroupTest:
    """How many boxes a circuit needs.

    Attributes:
        circuit: faithfulness of the circuit itself, every node alone, on the prompts of the points.
        points: by falling number of boxes.
        shown: number of boxes that the circuit is shown in.
        within: the fewest boxes that lose at most `points_lost` (a share of the full model's metric, either way) on
            the training prompts that this number was chosen on; there is a point of it.
        chosen_on, tested_on: those prompts, and the held-out prompts of the points.
        made_by: what nodes were merged by: how alike their profiles are, or ("loss") how much of what they say together
            one number can say; the latter where the former loses too much on the training prompts.
    """

    circuit: Interval
    points: tuple[GroupPoint, ...]
    shown: int
    within: int
    points_lost: float
    chosen_on: int
    tested_on: int
    made_by: MadeBy = "profiles"

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"shown in {plural(self.shown, 'box', 'boxes')}, {self.within} lose little"
        yield f"circuit {self.circuit.value:.3g}"
