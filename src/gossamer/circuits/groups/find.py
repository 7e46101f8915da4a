"""The groups of a circuit: so many times fewer boxes, what it costs that each moves as one, and how few cost little."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.circuits.cost import first_prompts
from gossamer.circuits.edges import DirectEffects
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.group import GroupPoint, GroupTest, MadeBy, NodeGroup
from gossamer.circuits.groups.clusters import Merges, merges, merges_by_loss
from gossamer.circuits.groups.profiles import PromptProfiles, prompt_profiles, similarity
from gossamer.circuits.groups.tied import tied, ties, worth
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.results import NodeCard
from gossamer.circuits.splice import Splice
from gossamer.display import quoted
from gossamer.features.feature import Node
from gossamer.progress import track
from gossamer.statistics import Interval

# A circuit is shown in so many times fewer boxes than nodes; it is tested in these; random groupings of each.
FOLD, FEWER, DRAWS = 5.0, (1.5, 2.0, 3.0, 5.0, 8.0), 3
# What the fewest boxes may lose, as a share of the full model's metric.
POINTS_LOST = 0.02
WORDS = 3


@dataclass(frozen=True, eq=False)
class CircuitGroups:
    """The groups of a circuit, before words.

    Attributes:
        circuit: the nodes.
        tree: any number of groups of them.
        profiles: what they do on the training prompts that groups are made on.
        label: number of each node's group.
        within: the fewest boxes that lose at most POINTS_LOST where that was looked for, on `chosen_on` prompts.
        made_by: what nodes were merged by, as :class:`GroupTest` says.
    """

    circuit: Nodes
    tree: Merges
    profiles: PromptProfiles
    label: Int[Tensor, "node"]
    within: int
    chosen_on: int
    made_by: MadeBy

    @property
    def boxes(self) -> int:
        """Number of groups, nodes that are alone among them."""
        return int(self.label.max()) + 1 if len(self.label) else 0


def circuit_groups(splice: Splice, effects: DirectEffects, choice: Evaluator, *, fold: float = FOLD) -> CircuitGroups:
    """Group the nodes of a circuit into `fold` times fewer boxes, and find how few lose next to nothing.

    Nodes of alike profiles go together. Where these boxes lose more than POINTS_LOST on the prompts of `choice`, and
    boxes made for what one number each can say (:func:`merges_by_loss`) lose less there, it is the latter.
    How few boxes lose little is found by bisection, which takes faithfulness for falling with their number.
    Cost: one gradient of each profiled prompt, and about log2 of the nodes passes of the prompts of `choice`.

    Args:
        splice: over training prompts; profiles are of the first of them, as many as the edges are of.
        effects: the circuit's edges.
        choice: measures circuits on the prompts that choices are made on.
        fold: nodes a box, on average; no group is of two sites, and errors are in none.
    """
    circuit = effects.circuit
    profiles = prompt_profiles(splice.select(first_prompts(splice, effects.prompts)), circuit)
    kind, whole = apart(circuit), choice.kept(circuit)

    def lost(tree: Merges, boxes: int) -> float:
        network = tied(choice.splice, circuit, ties(tree.cut(boxes), profiles))
        return abs(whole - choice.full.kept(network, choice.splice.batch_size))

    tree = merges(similarity(effects, profiles), kind)
    made_by: MadeBy = "profiles"
    boxes = max(tree.fewest, math.ceil(len(circuit) / fold))
    if (before := lost(tree, boxes)) > POINTS_LOST:
        other = merges_by_loss(profiles.moved * worth(profiles), kind)
        if lost(other, boxes) < before:
            tree, made_by = other, "loss"
    within = _fewest(tree.fewest, tree.nodes, lambda few: lost(tree, few) <= POINTS_LOST)
    tested = len(choice.splice.examples)
    return CircuitGroups(circuit, tree, profiles, tree.cut(boxes), within, tested, made_by)


def apart(circuit: Nodes) -> Int[Tensor, "node"]:
    """Nodes of one number may be in one group: those of a site; an error node is alone."""
    site = circuit.site.cpu()
    return torch.where(circuit.is_error.cpu(), len(circuit.sites) + torch.arange(len(site)), site)


def _fewest(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """The smallest number from `low` to `high` that is enough; `high` is."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def group_test(evaluator: Evaluator, found: CircuitGroups, *, seed: int = 0) -> GroupTest:
    """Faithfulness of the circuit in fewer and fewer boxes, beside random groups of the same sizes, as held out.

    Cost: 1 + DRAWS passes of the evaluator's prompts for each of about seven numbers of boxes.
    """
    n, generator = len(found.circuit), torch.Generator().manual_seed(seed)
    counts = {max(found.tree.fewest, round(n / times)) for times in FEWER} | {found.boxes, found.within}

    def metric(label: Int[Tensor, "node"]) -> Tensor:
        network = tied(evaluator.splice, found.circuit, ties(label, found.profiles))
        return evaluator.full.metric_of(network, evaluator.splice.batch_size)

    def interval(values: Tensor) -> Interval:
        return evaluator.full.interval(values, evaluator.weights)

    def point(boxes: int) -> GroupPoint:
        label = found.tree.cut(boxes)
        draws = [metric(shuffled(label, apart(found.circuit), generator)) for _ in range(DRAWS)]
        shares = tuple(evaluator.full.share(one) for one in draws)
        return GroupPoint(boxes, interval(metric(label)), interval(torch.stack(draws).mean(dim=0)), shares)

    whole = interval(evaluator.prompt_metrics(found.circuit).metric)
    points = tuple(map(point, track(sorted(counts, reverse=True), "groups", len(counts))))
    tested = len(evaluator.splice.examples)
    return GroupTest(
        whole, points, found.boxes, found.within, POINTS_LOST, found.chosen_on, tested, made_by=found.made_by
    )


def shuffled(label: Int[Tensor, "node"], site: Int[Tensor, "node"], generator: torch.Generator) -> Int[Tensor, "node"]:
    """Groups of the same sizes at the same sites, of random nodes."""
    found = label.clone()
    for one in torch.unique(site):
        here = torch.nonzero(site == one).squeeze(1)
        found[here] = label[here[torch.randperm(len(here), generator=generator)]]
    return found


def group_effect(evaluator: Evaluator, circuit: Nodes, group: Int[Tensor, "some"]) -> float:
    """Faithfulness that a circuit loses when the nodes at these places are ablated together. Of one node, its own."""
    rest = torch.ones(len(circuit), dtype=torch.bool)
    rest[group] = False
    return evaluator.kept(circuit) - evaluator.kept(circuit.select(rest.to(circuit.site.device)))


def node_groups(evaluator: Evaluator, found: CircuitGroups, cards: Sequence[NodeCard]) -> tuple[NodeGroup, ...]:
    """The groups of two nodes or more with words and effects, by falling effect."""
    known = {card.node: card for card in cards}
    keys = found.circuit.keys()
    groups = []
    for number in range(found.boxes):
        places = torch.nonzero(found.label == number).squeeze(1)
        if len(places) > 1:
            nodes = sorted((keys[place] for place in places.tolist()), key=lambda node: -abs(known[node].effect))
            groups.append(
                NodeGroup(tuple(nodes), group_label(nodes, known), group_effect(evaluator, found.circuit, places))
            )
    return tuple(sorted(groups, key=lambda group: -abs(group.effect)))


def group_label(nodes: Sequence[Node], cards: Mapping[Node, NodeCard]) -> str:
    """What the node that matters most is said to be; else the words of most of the nodes, by how much these matter.

    `nodes`: those that matter most first.
    """
    said = [cards[node].card.explanation for node in nodes]
    if said[0] is not None:
        return said[0]
    votes: dict[str, float] = {}
    for node in nodes:
        for word in cards[node].card.words(2 * WORDS):
            # A word of several nodes comes before any word of one alone.
            votes[word] = votes.get(word, 0.0) + 1 + min(1.0, abs(cards[node].effect))
    most = sorted(votes, key=lambda word: -votes[word])[:WORDS]
    return ", ".join(map(quoted, most)) or f"{nodes[0]} and {len(nodes) - 1} more"
