"""The published recipe: one annealed mask run for every sparsity weight, over all latents.

Adam on one parameter a node, soft mask sigmoid(tau m) with tau rising exponentially from 1, loss = | difference of two
batch means of the task's metric | + lambda * (sum of the soft mask) / (number of dictionaries). From Caples et al.
2025 (Scaling Sparse Feature Circuit Finding to Gemma 9B), with true means for the ablation values. It is kept as it was
published: the target is the model with its dictionaries, on each batch alone, and prompts are taken in order (from the
first again when they run out). Learning rate and number of steps were different for each published task: here
one setting serves all of them, that of agreement.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.outputs import Outputs
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import Splice
from gossamer.display import short_repr
from gossamer.errors import NotFiniteError
from gossamer.progress import begin

# The published grids (IOI, code and agreement, the last divided by its sequence length of seven as its loss was).
LAMBDAS = (0.0001, 0.0003, 0.001, 0.0029, 0.0064, 0.0113, 0.0205, 0.0447, 0.0827, 0.1345, 0.29, 0.64, 1.18, 1.92)


@dataclass(frozen=True)
class ReferenceSettings:
    """Published settings.

    Attributes:
        lambdas: one full run for each.
        learning_rate: 0.05 was published for agreement, 1 for the other tasks.
        steps: batches of one run (61 to 408 published).
        batch_size: prompts a step.
        base, final: tau = base ** (final * step / steps).
    """

    lambdas: Sequence[float] = LAMBDAS
    learning_rate: float = 0.05
    steps: int = 160
    batch_size: int = 16
    base: float = 200.0
    final: float = 1.21

    __repr__ = short_repr


def reference_path(splice: Splice, settings: ReferenceSettings | None = None) -> CircuitPath:
    """One circuit for every lambda, by falling size. `splice` should hold every node, as published.

    The runs share nothing but the prompts, which all take in the same order: they go side by side, so that the target
    of a batch is computed once for all of them.

    Raises:
        NotFiniteError: the loss of a run became NaN or infinite.
    """
    settings = settings or ReferenceSettings()
    began = time.perf_counter()
    advance = begin("reference recipe", len(settings.lambdas) * settings.steps)
    whole = splice.with_nodes(splice.nodes.none(), non_nodes="kept")
    runs = [_Run.begin(splice, weight, settings) for weight in settings.lambdas]
    for step in range(settings.steps):
        rows = torch.arange(step * settings.batch_size, (step + 1) * settings.batch_size) % len(splice.examples)
        with torch.no_grad():
            target = _mean_metric(splice, whole.outputs(runs[0].mask[:0], rows), rows)
        for run in runs:
            run.step(splice, target, rows, settings, step)
            advance(1, f"lambda {run.weight:g}")
    circuits = [torch.nonzero(run.mask.detach() > 0).squeeze(1) for run in runs]
    circuits.sort(key=len, reverse=True)
    facts = {name: str(value) for name, value in asdict(settings).items()}
    return CircuitPath("reference recipe", splice.nodes, tuple(circuits), time.perf_counter() - began, settings=facts)


@dataclass(frozen=True)
class _Run:
    """One annealed run: its sparsity weight, its parameters and their optimiser."""

    weight: float
    mask: Float[Tensor, "node"]
    optimiser: torch.optim.Adam

    @classmethod
    def begin(cls, splice: Splice, weight: float, settings: ReferenceSettings) -> "_Run":
        mask = torch.ones(len(splice.nodes), device=splice.model.device, requires_grad=True)
        return cls(weight, mask, torch.optim.Adam([mask], lr=settings.learning_rate))

    def step(
        self, splice: Splice, target: Float[Tensor, ""], rows: Tensor, settings: ReferenceSettings, step: int
    ) -> None:
        soft = torch.sigmoid(settings.base ** (settings.final * step / settings.steps) * self.mask)
        sparsity = self.weight * soft.sum() / len(splice.dictionaries)
        loss = (target - _mean_metric(splice, splice.outputs(soft, rows), rows)).abs() + sparsity
        if not torch.isfinite(loss):
            raise NotFiniteError(f"reference recipe: the loss became {loss.item()} at step {step}; lower learning_rate")
        self.mask.grad = torch.autograd.grad(loss, self.mask)[0]
        self.optimiser.step()


def _mean_metric(splice: Splice, outputs: Outputs, rows: Tensor) -> Float[Tensor, ""]:
    return spliced_metric(splice, outputs, rows).mean()
