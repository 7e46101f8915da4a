"""The held-out prompts with the references that every circuit is measured against."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.bootstrap import bootstrap_weights
from gossamer.circuits.cost import affordable, first_prompts
from gossamer.circuits.curve import Curve, CurvePoint
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import FullModel, Network, PromptMetrics, task_metrics
from gossamer.circuits.results import PromptCase
from gossamer.circuits.splice import Splice
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.display import plural, short_repr
from gossamer.model.site import Site
from gossamer.progress import part_of, track


@dataclass(frozen=True)
class MeasuredPath:
    """Every circuit of a path on every prompt of an evaluator's; `metrics` in the path's order."""

    path: CircuitPath
    metrics: tuple[PromptMetrics, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.path)


@dataclass(frozen=True)
class Evaluator:
    """Measures circuits on one split; the full model and the unmasked dictionaries are run once.

    Attributes:
        splice: the network over the split's prompts; its nodes are the candidates, which set the axis of areas.
        seed: of every bootstrap, so that intervals of different circuits can be compared.
        own: the full model on these prompts, where it has been measured.
    """

    splice: Splice
    seed: int = 0
    own: FullModel | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.splice)
        yield f"seed={self.seed}"

    @cached_property
    def full(self) -> FullModel:
        """The model itself."""
        if self.own is not None:
            return self.own
        splice = self.splice
        network = splice.with_nodes(splice.nodes.none(), non_nodes="ablated")
        empty = partial(network.outputs, torch.zeros(0, device=splice.model.device))
        return FullModel.measure(splice.full, splice.examples, splice.batch_size, empty)

    @cached_property
    def weights(self) -> Float[Tensor, "draw prompt"]:
        """Bootstrap samples of the prompts, the same for every network."""
        return bootstrap_weights(self.splice.examples, self.seed)

    @cached_property
    def dictionaries(self) -> PromptMetrics:
        """All dictionaries spliced in, nothing ablated."""
        return self.prompt_metrics(self.splice.nodes.none(), non_nodes="kept")

    def prompt_metrics(self, circuit: Nodes, *, non_nodes: str = "ablated", weight: float = 1.0) -> PromptMetrics:
        """The network that keeps `circuit` and ablates the rest; with non_nodes="kept" and weight 0, the reverse."""
        return self.full.prompt_metrics_of(self._network(circuit, non_nodes, weight), self.splice.batch_size)

    def _network(self, circuit: Nodes, non_nodes: str, weight: float) -> Network:
        network = self.splice.with_nodes(circuit, non_nodes="kept" if non_nodes == "kept" else "ablated")
        return partial(network.outputs, torch.full((len(circuit),), weight, device=self.splice.model.device))

    def without(self, circuit: Nodes) -> PromptMetrics:
        """All dictionaries spliced in with `circuit` alone ablated."""
        return self.prompt_metrics(circuit, non_nodes="kept", weight=0.0)

    def task_metrics(self, name: str, prompt_metrics: PromptMetrics) -> TaskMetrics:
        """Means and intervals of prompts' metrics against this evaluator's references."""
        return task_metrics(name, prompt_metrics, self.full, self.dictionaries, self.weights)

    def faithfulness(self, prompt_metrics: PromptMetrics) -> float:
        """Share of the full model's behaviour that a network keeps (see :mod:`gossamer.tasks.metric`)."""
        return self.full.faithfulness(prompt_metrics)

    def kept(self, circuit: Nodes, *, non_nodes: str = "ablated", weight: float = 1.0) -> float:
        """Faithfulness of a network as of :meth:`prompt_metrics`, of which nothing else is measured."""
        return self.full.kept(self._network(circuit, non_nodes, weight), self.splice.batch_size)

    def select(self, rows: Int[Tensor, "rows"]) -> "Evaluator":
        """Measures circuits on some of the prompts only."""
        return Evaluator(self.splice.select(rows), self.seed, self.full.select(rows))

    def affordable(self, fewest: int) -> "Evaluator":
        """On all of the prompts; on as few as `fewest` where a pass is dear."""
        total = len(self.splice.examples)
        count = affordable(self.splice, total, fewest)
        return self if count == total else self.select(first_prompts(self.splice, count))

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Faithfulness of the empty circuit and of all the splice's nodes: where every curve begins and ends."""
        return self.kept(self.splice.nodes.none()), self.kept(self.splice.nodes)

    def measured(self, path: CircuitPath) -> MeasuredPath:
        """Every circuit of a path on every prompt."""
        with part_of(path.method):
            circuits = track(path.circuits, "circuits of every size", len(path.circuits))
            return MeasuredPath(path, tuple(self.prompt_metrics(path.nodes.select(circuit)) for circuit in circuits))

    def curve(self, measured: MeasuredPath) -> Curve:
        """Behaviour of every circuit of a path, with the areas under it.

        The areas of all paths are over one axis, the share of the splice's own nodes (a study's candidates), whatever
        a path chose from; they end at all of these nodes, so that larger circuits do not count.
        """
        path, points = measured.path, []
        for circuit, metrics in zip(path.circuits, measured.metrics, strict=True):
            nodes = path.nodes.select(circuit)
            found = self.task_metrics(path.method, metrics)
            points.append(CurvePoint(len(nodes), nodes.unique_latents(), found))
        known = [(point.size, point.task_metrics.faithfulness.value) for point in points]
        cpr, cmd = areas(known, len(self.splice.nodes), self.ends)
        return Curve(path.method, tuple(points), path.seconds, cpr, cmd)

    def cases(self, circuit: Nodes) -> tuple[PromptCase, ...]:
        """Full model and circuit on the prompts of every `Prompt.case` apart, the most frequent case first.

        Every case is held against the full model on its own prompts. Empty when no prompt names its case.
        """
        return self.cases_of("circuit", lambda: self.prompt_metrics(circuit))

    def cases_of(self, name: str, measure: Callable[[], PromptMetrics]) -> tuple[PromptCase, ...]:
        """The same with another network in the circuit's place, which is measured if there are cases."""
        groups: dict[str, list[int]] = {}
        for row, prompt in enumerate(self.splice.examples.prompts):
            groups.setdefault(prompt.case, []).append(row)
        if set(groups) <= {""}:
            return ()
        found = measure()
        frequent = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        return tuple(self._case(case, torch.tensor(rows), name, found) for case, rows in frequent)

    def _case(self, case: str, rows: Int[Tensor, "rows"], name: str, found: PromptMetrics) -> PromptCase:
        rows = rows.to(found.metric.device)
        full, dictionaries = self.full.select(rows), self.dictionaries.select(rows)
        weights = bootstrap_weights(full.examples, self.seed)
        of_full = task_metrics("full model", full.prompt_metrics, full, dictionaries, weights)
        return PromptCase(case, len(rows), of_full, task_metrics(name, found.select(rows), full, dictionaries, weights))

    def budget(self, circuit: Nodes) -> tuple[TaskMetrics, ...]:
        """Where the behaviour is lost: model, each dictionary alone, all dictionaries, the circuit, nothing kept.

        Of a circuit with error nodes also all dictionaries with these errors kept.
        """
        *rows, dictionaries = self.budget_of_dictionaries()
        if len(errors := circuit.select(circuit.is_error)):
            name = f"+ all dictionaries, {plural(len(errors), 'error')} kept"
            rows.append(self.task_metrics(name, self.prompt_metrics(errors, non_nodes="kept")))
        rows.append(dictionaries)
        rows.append(self.task_metrics("circuit", self.prompt_metrics(circuit)))
        rows.append(self.task_metrics("empty circuit", self.prompt_metrics(circuit.none())))
        return tuple(rows)

    def budget_of_dictionaries(self) -> tuple[TaskMetrics, ...]:
        """The same before there is a circuit: model, each dictionary alone (of several), all dictionaries."""
        rows = [self.task_metrics("full model", self.full.prompt_metrics)]
        if len(self.splice.dictionaries) > 1:
            rows += [self.task_metrics(f"+ {site} alone", self._alone(site)) for site in self.splice.dictionaries]
        return (*rows, self.task_metrics("+ all dictionaries", self.dictionaries))

    def _alone(self, site: Site) -> PromptMetrics:
        splice = self.splice
        nodes = Nodes.from_grids([site], splice.nodes.roles, [torch.zeros(1, 1, dtype=torch.bool)])
        network = Splice.of(
            splice.model,
            {site: splice.dictionaries[site]},
            splice.examples,
            splice.ablation,
            nodes,
            non_nodes="kept",
            batch_size=splice.batch_size,
        )
        return self.full.prompt_metrics_of(
            partial(network.outputs, torch.zeros(0, device=splice.model.device)), splice.batch_size
        )


def areas(points: list[tuple[int, float]], n_nodes: int, ends: tuple[float, float]) -> tuple[float, float]:
    """CPR and CMD over the share of candidate nodes kept, as the MIB benchmark defines them (Mueller et al. 2025).

    MIB's faithfulness subtracts the empty circuit, f = (m(C) - m(empty)) / (m(full) - m(empty)); CPR is the area under
    f and CMD that of |1 - f|. Everywhere else in this package faithfulness is m(C) / m(full), with nothing subtracted.
    Two things differ from MIB: both areas are of the same circuits (MIB ranks by signed scores for CPR, by absolute
    ones for CMD), and the largest circuit is that of all candidates, which dictionaries keep from being the full model.

    Args:
        points: (size, m(C) / m(full)) of the path's circuits; those of more than `n_nodes` are left out.
        n_nodes: number of candidates: share 1.
        ends: m / m(full) with no node and with every candidate.

    Returns:
        Trapezoid areas of f and of |1 - f|; NaN if the empty circuit does just what the full model does.
    """
    known = {0: ends[0], n_nodes: ends[1]} | {size: value for size, value in points if size <= n_nodes}
    sizes = sorted(known)
    share = torch.tensor(sizes, dtype=torch.float64) / n_nodes
    values = torch.tensor([known[size] - ends[0] for size in sizes], dtype=torch.float64) / (1 - ends[0] or math.nan)
    return torch.trapezoid(values, share).item(), torch.trapezoid((1 - values).abs(), share).item()
