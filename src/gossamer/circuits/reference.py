"""The published recipe: one annealed mask run for every sparsity weight, over all latents.

Adam on one parameter a node, soft mask sigmoid(tau m) with tau rising exponentially from 1, loss = | difference of two
batch means of the task's metric | + lambda * (sum of the soft mask) / (number of dictionaries). From Caples et al.
2025 (Scaling Sparse Feature Circuit Finding to Gemma 9B), with true means for the ablation values. It is kept as it was
published: the target is the model with its dictionaries, recomputed for every batch, and prompts are taken in order
(from the first again when they run out). Learning rate and number of steps were different for each published task: here
one setting serves all of them, that of agreement.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.outcome import spliced_metric
from gossamer.circuits.path import Path
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


def reference_path(splice: Splice, settings: ReferenceSettings | None = None) -> Path:
    """One circuit for every lambda, by falling size. `splice` should hold every node, as published."""
    settings = settings or ReferenceSettings()
    began = time.perf_counter()
    advance = begin("reference recipe", len(settings.lambdas) * settings.steps)
    circuits: list[Tensor] = []
    for weight in settings.lambdas:
        mask = _run(splice, weight, settings, partial(advance, 1, f"lambda {weight:g}"))
        circuits.append(torch.nonzero(mask > 0).squeeze(1))
    circuits.sort(key=len, reverse=True)
    facts = {name: str(value) for name, value in asdict(settings).items()}
    return Path("reference recipe", splice.nodes, tuple(circuits), time.perf_counter() - began, settings=facts)


def _run(
    splice: Splice, weight: float, settings: ReferenceSettings, advance: Callable[[], None]
) -> Float[Tensor, "node"]:
    whole = splice.over(splice.nodes.none(), rest="kept")
    mask = torch.ones(len(splice.nodes), device=splice.model.device, requires_grad=True)
    optimiser = torch.optim.Adam([mask], lr=settings.learning_rate)
    n, n_sites = len(splice.examples), len(splice.dictionaries)
    for step in range(settings.steps):
        rows = torch.arange(step * settings.batch_size, (step + 1) * settings.batch_size) % n
        soft = torch.sigmoid(settings.base ** (settings.final * step / settings.steps) * mask)
        with torch.no_grad():
            target = _mean_metric(splice, whole(mask[:0], rows), rows)
        loss = (target - _mean_metric(splice, splice(soft, rows), rows)).abs() + weight * soft.sum() / n_sites
        if not torch.isfinite(loss):
            raise NotFiniteError(f"reference recipe: the loss became {loss.item()} at step {step}; lower learning_rate")
        mask.grad = torch.autograd.grad(loss, mask)[0]
        optimiser.step()
        advance()
    return mask.detach()


def _mean_metric(splice: Splice, logits: Tensor, rows: Tensor) -> Tensor:
    return spliced_metric(splice, logits, rows).mean()
