"""Learned masks with the size as the constraint: one run gives the whole path from large circuits to small ones.

The published recipe trains one mask for each sparsity weight and takes the size that comes out. Here the size is what
is prescribed. With one score s a node, the soft mask is ``M = sigmoid((s - theta) / T)`` with theta such that the sum
of M is exactly k (a soft top-k); the loss is per prompt, so that errors of opposite sign cannot cancel; and k falls
geometrically from half the candidates (or more, if larger circuits are wanted) to the smallest size while T falls, so
that every size starts from the masks of the size before it. Circuits are read off as the k highest scores whenever k
passes a wanted size.

Scores start in the order of gradients (RelP and, of aligned prompts, EAP-IG) and are pulled back to it as they learn: a
free mask learns which names its prompts have, gradients less so, and on prompts with other names many nodes of a free
mask do nothing.

Speed comes from exactness: nodes that have fallen far below the present size are folded into the constants of
:class:`Splice`, so that encoders and decoders run on fewer and fewer columns; the forward pass is the full one.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.batching import halved, is_out_of_memory
from gossamer.circuits.attribution import GRADIENT_BATCH, attribution_patching, gradient_at
from gossamer.circuits.cost import affordable, first_prompts
from gossamer.circuits.input_gradients import input_gradients
from gossamer.circuits.loss import Loss, prompt_loss
from gossamer.circuits.path import SIZES, CircuitPath
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.relevance import relevance
from gossamer.circuits.splice import Splice
from gossamer.display import short_repr
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.linearised import without_a_rule
from gossamer.progress import begin

# How far Adam can carry a score in a whole run, and the rate that it begins with, at which the first steps, that know
# little, leave the order that the scores start in. The fewer the steps are, the longer the later ones have to be.
_REACH, _FIRST_RATE, _HIGHEST_RATE = 40.0, 0.1, 3.0
# How far from its start a score gets that is pushed the same way at every step, in the first step and in the last;
# scores start over about -5 .. 5. Large circuits, which meet every prompt, are mostly chance without a short leash.
_LEASH = (1.0, 4.0)
# What a node that hurts counts for at the start, beside one that helps as much.
_HURTING = 0.1
# Points on the way from the counterfactual's input at which gradients for the order are taken: more bring no more.
_POINTS = 2
_FEWEST_PROMPTS = 16
# Prompts that the order is of in which scores start, and where passes are dear: with more it is no better.
RANKED, FEWEST_RANKED = 128, 64
# Largest circuits that are learned and not an order's first nodes, as a share of the candidates.
_LEARNED = 0.75


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the mask search.

    Attributes:
        loss: "metric": how far each prompt's metric falls short of the full model's, times PROMPT_WEIGHT, plus the
            mean's distance from it on either side, both in units of faithfulness (the first keeps errors of opposite
            sign from cancelling, the second is what faithfulness is made of); "kl": KL(full model || circuit) of each
            prompt at the answer position.
        sizes: circuit sizes wanted; those that leave no candidate out stand for all candidates but one.
        larger: whether circuits beyond the largest of these are wanted too, up to all candidates, as rankings have
            them: learned up to three quarters of the candidates, from there on in the order of the scores at that size.
        steps: gradient steps of the whole run; of twice as many circuits are no closer.
        batch_size: prompts a step, None: 32, on a CPU as few as 16 where a prompt's pass is expensive; the splice's
            batch size, where that is smaller, is what memory holds at once.
        learning_rate: of Adam, in units of the scores, whose ranks start spread over about -5 .. 5; None: from 0.1,
            rising linearly so that it is 40 / steps on average (up to 3).
        temperature: T at the start and at the end.
        reserve: nodes ranked below `reserve` times the present size are folded into constants.
        seed: of the batches.
    """

    loss: Loss = "metric"
    sizes: Sequence[int] = SIZES
    larger: bool = False
    steps: int = 100
    batch_size: int | None = None
    learning_rate: float | None = None
    temperature: tuple[float, float] = (1.0, 0.2)
    reserve: float = 8.0
    seed: int = 0

    __repr__ = short_repr


class Effort(NamedTuple):
    """What each step of a search spends: prompts, and Adam's learning rate in the first step and in the last."""

    prompts: int
    learning_rate: tuple[float, float]


@dataclass
class _SearchState:
    """State of a search: the nodes still in play and their scores.

    Attributes:
        start: what each node's score was at first; `learned`: what has been added since, the leaf that is optimised.
        step_size: prompts a step; `batch_size`: of these, what memory holds at once.
    """

    splice: Splice
    alive: Int[Tensor, "alive"]
    start: Float[Tensor, "alive"]
    learned: Float[Tensor, "alive"]
    optimiser: torch.optim.AdamW
    step_size: int
    batch_size: int

    @property
    def scores(self) -> Float[Tensor, "alive"]:
        return self.start + self.learned


def search_path(
    splice: Splice, full: FullModel, settings: SearchSettings | None = None, *, only: int | None = None
) -> CircuitPath:
    """Circuits of all wanted sizes that the candidates allow, from one run.

    Args:
        splice: the network over the training prompts, masks over the candidates.
        full: the full model on the same prompts.
        settings: see :class:`SearchSettings`.
        only: so many circuits, the largest, are enough: the run ends with them, as a whole run finds them.

    Raises:
        UsageError: none of the wanted sizes is possible with these candidates.
        NotFiniteError: the loss became NaN or infinite.
    """
    settings = settings or SearchSettings()
    began, (sizes, larger) = time.perf_counter(), _sizes(settings, len(splice.nodes))
    spent = effort(settings, partial(affordable, splice))
    wanted = [*larger, *sizes][:only]
    circuits = [_top(run, size) for size, run in _readings(splice, full, settings, spent, wanted)]
    used = asdict(replace(settings, sizes=sizes, batch_size=spent.prompts))
    rates = " to ".join(dict.fromkeys(f"{rate:g}" for rate in spent.learning_rate))
    facts = {name: str(value) for name, value in used.items()} | {"learning_rate": rates}
    return CircuitPath("mask", splice.nodes, tuple(circuits), time.perf_counter() - began, settings=facts)


def search_sizes(settings: SearchSettings, n: int) -> list[int]:
    """The sizes of a search's circuits in `n` candidates, falling."""
    sizes, larger = _sizes(settings, n)
    return [*larger, *sizes]


def _sizes(settings: SearchSettings, n: int) -> tuple[list[int], list[int]]:
    """The sizes that are learned, and larger ones that go on in the order of the scores at the first; both falling."""
    sizes = _possible(settings.sizes, n)
    beyond = CircuitPath.ranking_sizes(settings.sizes, n) if settings.larger else []
    sizes = sorted({*sizes, *(size for size in beyond if size <= _LEARNED * n)}, reverse=True)
    return sizes, sorted((size for size in beyond if size > sizes[0]), reverse=True)


def _readings(
    splice: Splice, full: FullModel, settings: SearchSettings, spent: Effort, wanted: list[int]
) -> Iterator[tuple[int, _SearchState]]:
    """The first of the sizes of :func:`_sizes`, `wanted`, each with the state of the run when it passes it."""
    sizes, waiting = _sizes(settings, len(splice.nodes))[0], list(wanted)
    generator = torch.Generator().manual_seed(settings.seed)
    run, steps = _begin(splice, spent), settings.steps
    # Above the largest size wanted, so that it too is learned and not the order that the run began with.
    first = max(len(splice.nodes) / 2, min(1.5 * sizes[0], 0.9 * len(splice.nodes)))
    # The only step of one is the last.
    progress = [step / (steps - 1) if steps > 1 else 1.0 for step in range(steps)]
    falling = [_falling(first, sizes[-1], share) for share in progress]
    needed = 1 + next(step for step, size in enumerate(falling) if size <= min(waiting[-1], sizes[0]))
    advance = begin("mask search", needed)
    for share, size in zip(progress[:needed], falling, strict=False):
        _set_pace(run, spent, share)
        loss = _step(run, full, settings, size, _falling(*settings.temperature, share), generator)
        advance(1, f"{size:.0f} nodes, loss {loss:.3f}")
        while waiting and size <= min(waiting[0], sizes[0]):
            yield waiting.pop(0), run
        if settings.reserve * size < 0.7 * len(run.alive):
            run = _narrowed(run, max(int(settings.reserve * size), 2))


def _possible(wanted: Sequence[int], n_candidates: int) -> list[int]:
    """The wanted sizes, falling; for those that leave no candidate out, the size that leaves out one."""
    sizes = sorted({min(size, n_candidates - 1) for size in wanted}, reverse=True)
    if not sizes or sizes[-1] < 1:
        raise UsageError(
            f"circuit sizes of at least 1 and less than the number of candidates ({n_candidates}) expected, "
            f"found {', '.join(map(str, wanted)) or 'none'}; ask for other sizes"
        )
    return sizes


def effort(settings: SearchSettings, afford: Callable[[int, int], int]) -> Effort:
    """What a step spends; `afford` says how many prompts of (most, least) where none are asked for."""
    last = min(max(2 * _REACH / settings.steps - _FIRST_RATE, _FIRST_RATE), _HIGHEST_RATE)
    rates = (_FIRST_RATE, last) if settings.learning_rate is None else (settings.learning_rate, settings.learning_rate)
    return Effort(settings.batch_size or afford(GRADIENT_BATCH, _FEWEST_PROMPTS), rates)


def _begin(splice: Splice, spent: Effort) -> _SearchState:
    """Scores that start as the logits of the ranks of :func:`_promise`: nodes of much promise start inside."""
    n = len(splice.nodes)
    some = splice.select(first_prompts(splice, affordable(splice, RANKED, FEWEST_RANKED)))
    order = torch.argsort(_promise(some), stable=True)
    ranks = torch.empty(n, device=order.device).index_copy_(0, order, torch.arange(n, device=order.device) + 0.5)
    learned = torch.zeros(n, device=order.device, requires_grad=True)
    everything = torch.arange(n, device=order.device)
    at_once = min(spent.prompts, splice.batch_size)
    start = 0.5 * torch.logit(ranks / n)
    return _SearchState(splice, everything, start, learned, _adam(learned), spent.prompts, at_once)


def _promise(splice: Splice) -> Float[Tensor, "node"]:
    """What a node does to first order, the weaker where it hurts.

    At the unmasked network and, of aligned prompts, on the way there from the counterfactuals too. Of a distance
    from the model: halfway to the ablated network, because it has no gradient near the model itself.
    """
    if splice.examples.metric.distance:
        return _counted(gradient_at(splice, 0.5, "attribution patching"))
    promise = _counted(_at_the_model(splice))
    # Both of one size: which of them sees a node is a matter of where its step lies.
    return promise + _counted(input_gradients(splice, _POINTS)) if splice.examples.aligned else promise


def _at_the_model(splice: Splice) -> Float[Tensor, "node"]:
    """What a node does at the unmasked network, by relevance (RelP).

    Of nodes that do nothing there: what they do on the way to the ablated network, as an essential one can lie on a
    plateau, behind a step. Where relevance has no rule for the model's MLPs, the gradient itself stands in.
    """
    found = (attribution_patching if without_a_rule(splice.model) else relevance)(splice)
    if not bool((found == 0).any()):
        return found
    return torch.where(found == 0, gradient_at(splice, 0.75, "attribution patching"), found)


def _counted(effect: Float[Tensor, "node"]) -> Float[Tensor, "node"]:
    """Effects in units of their mean size, the weaker where they hurt."""
    size = effect.abs().mean().clamp_min(torch.finfo(effect.dtype).tiny)
    return torch.where(effect < 0, -_HURTING * effect, effect) / size


def _adam(learned: Tensor) -> torch.optim.AdamW:
    return torch.optim.AdamW([learned], betas=(0.9, 0.99))


def _set_pace(run: _SearchState, spent: Effort, progress: float) -> None:
    """The rate of a step, and how strongly what is learned decays, which pulls scores to where they started.

    The pull is in proportion to the rate: whatever that is, a push of rate a step is balanced at the leash's length.
    """
    first, last = spent.learning_rate
    pace = {"lr": first + (last - first) * progress, "weight_decay": 1 / _falling(*_LEASH, progress)}
    run.optimiser.param_groups[0].update(pace)


def _falling(first: float, last: int | float, progress: float) -> float:
    # Written so that the last value is met exactly: the smallest size is recorded when it is reached.
    return last * math.pow(first / last, 1 - progress)


def soft_top(scores: Float[Tensor, "node"], size: float, temperature: float) -> Float[Tensor, "node"]:
    """Soft mask of `size` nodes: sigmoid((scores - theta) / temperature) whose sum is `size`, theta by bisection.

    Differentiable: theta follows the scores (implicit differentiation), so that gradients keep the sum as it is.
    """
    fixed = scores.detach()
    low, high = fixed.min() - 20 * temperature, fixed.max() + 20 * temperature
    for _ in range(40):
        middle = (low + high) / 2
        above = torch.sigmoid((fixed - middle) / temperature).sum() > size
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    soft = torch.sigmoid((fixed - high) / temperature)
    slope = soft * (1 - soft)
    theta = high + (slope * (scores - fixed)).sum() / slope.sum().clamp(min=1e-12)
    return torch.sigmoid((scores - theta) / temperature)


def _step(
    run: _SearchState,
    full: FullModel,
    settings: SearchSettings,
    size: float,
    temperature: float,
    generator: torch.Generator,
) -> float:
    n = len(run.splice.examples)
    rows = torch.randperm(n, generator=generator)[: run.step_size].to(run.scores.device)
    run.optimiser.zero_grad()
    mask = soft_top(run.scores, min(size, 0.9 * len(run.alive)), temperature)
    total = _accumulate(run, full, settings.loss, mask, rows)
    if not math.isfinite(total):
        raise NotFiniteError(
            f"mask search: the loss became {total} at {size:.0f} nodes; check the dictionaries, use float32 or bfloat16"
        )
    run.optimiser.step()
    return total


def _accumulate(run: _SearchState, full: FullModel, loss: Loss, mask: Tensor, rows: Int[Tensor, "rows"]) -> float:
    """Loss and its gradient over `rows`, in parts that are halved when memory runs out."""
    leaf = mask.detach().requires_grad_()
    slope, lean = torch.zeros_like(leaf), None
    total, start = 0.0, 0
    while start < len(rows):
        part = rows[start : start + run.batch_size]
        try:
            if loss == "metric" and lean is None and len(part) < len(rows):
                lean = _lean(run, full, leaf, rows)
            value = prompt_loss(run.splice.outputs(leaf, part), full, loss, part, lean).sum() / len(rows)
            slope += torch.autograd.grad(value, leaf)[0]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            run.batch_size = halved(len(part), error)
            continue
        total, start = total + value.item(), start + len(part)
    mask.backward(slope)  # type: ignore[no-untyped-call]
    return total


def _lean(run: _SearchState, full: FullModel, mask: Tensor, rows: Int[Tensor, "rows"]) -> Float[Tensor, ""]:
    """On which side of the full model a batch is that memory holds in parts only: what ties its prompts together."""
    with torch.no_grad():
        parts = [full.excess(run.splice.outputs(mask, part), part) for part in torch.split(rows, run.batch_size)]
    return torch.cat(parts).mean().sign()


def _top(run: _SearchState, size: int) -> Int[Tensor, "chosen"]:
    """Positions (in the candidates) of the highest scores, best first."""
    return run.alive[torch.argsort(run.scores.detach(), descending=True, stable=True)[:size]]


def _narrowed(run: _SearchState, keep: int) -> _SearchState:
    """The run with only its `keep` best nodes in play, with their optimiser state."""
    best = torch.sort(torch.argsort(run.scores.detach(), descending=True, stable=True)[:keep]).values
    learned = run.learned.detach()[best].clone().requires_grad_()
    optimiser = _adam(learned)
    state = run.optimiser.state[run.learned]
    optimiser.state[learned] = {
        key: value[best] if value.shape == run.learned.shape else value for key, value in state.items()
    }
    splice, alive, start = run.splice.with_nodes(run.splice.nodes.select(best)), run.alive[best], run.start[best]
    return replace(run, splice=splice, alive=alive, start=start, learned=learned, optimiser=optimiser)
