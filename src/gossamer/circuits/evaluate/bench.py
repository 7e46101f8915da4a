"""The held-out prompts with the references that every circuit is measured against."""

from dataclasses import dataclass
from functools import cached_property, partial

import torch

from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outcome import FullModel, Outcome, behaviour
from gossamer.circuits.path import Path
from gossamer.circuits.results import Behaviour, Curve, CurvePoint
from gossamer.circuits.splice import Splice
from gossamer.model.site import Site


@dataclass(frozen=True)
class Bench:
    """Measures circuits on one split; the full model and the unmasked dictionaries are run once.

    Attributes:
        splice: the network over the split's prompts (its nodes do not matter).
        seed: of every bootstrap, so that intervals of different circuits can be compared.
    """

    splice: Splice
    seed: int = 0

    @cached_property
    def full(self) -> FullModel:
        """The model itself."""
        return FullModel.measure(self.splice.full, self.splice.examples, self.splice.batch_size)

    @cached_property
    def dictionaries(self) -> Outcome:
        """All dictionaries spliced in, nothing ablated."""
        return self.outcome(self.splice.nodes.none(), rest="kept")

    def outcome(self, circuit: Nodes, *, rest: str = "ablated", weight: float = 1.0) -> Outcome:
        """The network that keeps `circuit` and ablates the rest; with rest="kept" and weight 0, the reverse."""
        network = self.splice.over(circuit, rest="kept" if rest == "kept" else "ablated")
        mask = torch.full((len(circuit),), weight, device=self.splice.model.device)
        return self.full.outcome_of(partial(network, mask), self.splice.batch_size)

    def without(self, circuit: Nodes) -> Outcome:
        """All dictionaries spliced in with `circuit` alone ablated."""
        return self.outcome(circuit, rest="kept", weight=0.0)

    def behaviour(self, name: str, outcome: Outcome) -> Behaviour:
        """Means and intervals of an outcome against this bench's references."""
        return behaviour(name, outcome, self.full.outcome, self.dictionaries, self.seed)

    def faithfulness(self, outcome: Outcome) -> float:
        """Mean logit difference over the full model's."""
        return (outcome.logit_diff.double().mean() / self.full.outcome.logit_diff.double().mean()).item()

    def kept(self, circuit: Nodes) -> float:
        """Faithfulness of a circuit."""
        return self.faithfulness(self.outcome(circuit))

    def curve(self, path: Path) -> Curve:
        """Behaviour of every circuit of a path, with the areas under it."""
        points = []
        for circuit in path.circuits:
            nodes = path.nodes.select(circuit)
            found = self.behaviour(path.method, self.outcome(nodes))
            points.append(CurvePoint(len(nodes), nodes.unique_latents(), found))
        ends = (self.kept(path.nodes.none()), self.kept(path.nodes))
        cpr, cmd = areas([(point.size, point.behaviour.faithfulness.value) for point in points], len(path.nodes), ends)
        return Curve(path.method, tuple(points), path.seconds, cpr, cmd)

    def budget(self, circuit: Nodes) -> tuple[Behaviour, ...]:
        """Where the behaviour is lost: model, each dictionary alone, all dictionaries, the circuit, nothing kept."""
        rows = [self.behaviour("full model", self.full.outcome)]
        if len(self.splice.dictionaries) > 1:
            rows += [self.behaviour(f"+ {site} alone", self._alone(site)) for site in self.splice.dictionaries]
        rows.append(self.behaviour("+ all dictionaries", self.dictionaries))
        rows.append(self.behaviour("circuit", self.outcome(circuit)))
        rows.append(self.behaviour("empty circuit", self.outcome(circuit.none())))
        return tuple(rows)

    def _alone(self, site: Site) -> Outcome:
        splice = self.splice
        nodes = Nodes.from_grids([site], splice.nodes.roles, [torch.zeros(1, 1, dtype=torch.bool)])
        network = Splice(
            splice.model,
            {site: splice.dictionaries[site]},
            splice.examples,
            splice.ablation,
            nodes,
            rest="kept",
            batch_size=splice.batch_size,
        )
        return self.full.outcome_of(partial(network, torch.zeros(0, device=splice.model.device)), splice.batch_size)


def areas(points: list[tuple[int, float]], n_nodes: int, ends: tuple[float, float]) -> tuple[float, float]:
    """CPR and CMD of the MIB benchmark over the share of candidate nodes kept.

    Args:
        points: (size, faithfulness) of the path's circuits.
        n_nodes: number of candidates: share 1.
        ends: faithfulness with no node and with every candidate.

    Returns:
        Trapezoid areas of faithfulness, and of |1 - faithfulness|.
    """
    known = {0: ends[0], n_nodes: ends[1]} | dict(points)
    sizes = sorted(known)
    share = torch.tensor(sizes, dtype=torch.float64) / n_nodes
    values = torch.tensor([known[size] for size in sizes], dtype=torch.float64)
    return torch.trapezoid(values, share).item(), torch.trapezoid((1 - values).abs(), share).item()
