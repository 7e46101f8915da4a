"""One method's circuits beside every baseline's of the same size, prompt by prompt."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.curve import Curve, SizeComparison
from gossamer.circuits.evaluate.evaluator import Evaluator, MeasuredPath
from gossamer.circuits.path import SIZES, CircuitPath
from gossamer.circuits.prompt_metrics import PromptMetrics
from gossamer.progress import track
from gossamer.statistics import Interval

# The baseline whose nodes are counted, in all of its rankings.
GRADIENTS = "integrated gradients"
# What a reader could have held a circuit against: at each size the baseline that validation prompts choose.
CHOSEN = "chosen on validation"
# What the names of a score's rankings end in; see :data:`gossamer.circuits.methods.METHODS`.
_VARIANTS = (", signed", " by site")


def family(method: str) -> str:
    """The score that a method ranks by, whatever its thresholds and sign."""
    for ending in _VARIANTS:
        method = method.removesuffix(ending)
    return method


def compared(
    evaluator: Evaluator, ours: MeasuredPath, others: Sequence[MeasuredPath], least: int = min(SIZES)
) -> tuple[SizeComparison, ...]:
    """Ours beside the best of every family, at each size of `least` nodes or more that a family and ours have.

    Args:
        evaluator: what measured all of them: its prompts and bootstrap samples are everyone's.
        ours: the path that is held against the others; beyond its largest circuit that one stands.
        others: the baselines.
        least: the smallest size that counts.
    """
    families: dict[str, list[MeasuredPath]] = {}
    for other in others:
        families.setdefault(family(other.path.method), []).append(other)
    return tuple(one for name, members in families.items() for one in _against(evaluator, ours, name, members, least))


def chosen_baseline(choice: Evaluator, others: Sequence[MeasuredPath]) -> MeasuredPath | None:
    """At each size the baseline that is closest to the full model on the prompts that choices are made on.

    The best of all baselines on the test prompts themselves is more than anybody could have chosen; this is what could
    be chosen before. Baselines over other nodes than the first one's are left out; None where there is no baseline.

    Args:
        choice: of the training prompts that choices are made on.
        others: the baselines, measured on the test prompts.
    """
    if not others:
        return None
    nodes = others[0].path.nodes
    best: dict[int, tuple[float, Int[Tensor, _], PromptMetrics]] = {}
    for other in track(others, "baselines on validation prompts", len(others)):
        if len(other.path.nodes) != len(nodes):
            continue
        for circuit, measured in zip(other.path.circuits, other.metrics, strict=True):
            missed = abs(1 - choice.kept(nodes.select(circuit)))
            if len(circuit) not in best or missed < best[len(circuit)][0]:
                best[len(circuit)] = (missed, circuit, measured)
    chosen = [best[size] for size in sorted(best, reverse=True)]
    path = CircuitPath(CHOSEN, nodes, tuple(circuit for _, circuit, _ in chosen), 0.0)
    return MeasuredPath(path, tuple(measured for _, _, measured in chosen))


def _against(
    evaluator: Evaluator, ours: MeasuredPath, name: str, members: Sequence[MeasuredPath], least: int
) -> Iterator[SizeComparison]:
    sizes = {size for member in members for size in member.path.sizes if size >= least}
    for size in sorted(sizes, reverse=True):
        own = next((place for place, nodes in enumerate(ours.path.sizes) if nodes <= size), None)
        if own is None:
            continue
        theirs = [
            (member.path.method, closeness(evaluator, member.metrics[member.path.sizes.index(size)].metric))
            for member in members
            if size in member.path.sizes
        ]
        method, best = max(theirs, key=lambda one: float(one[1][0]))
        mine = closeness(evaluator, ours.metrics[own].metric)
        gap = mine - best
        low, high = torch.quantile(gap[1:], torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        difference = Interval(gap[0].item(), low, high)
        yield SizeComparison(size, ours.path.sizes[own], name, method, mine[0].item(), best[0].item(), difference)


def closeness(evaluator: Evaluator, metric: Float[Tensor, "prompt"]) -> Float[Tensor, "value"]:
    """1 - |1 - faithfulness|: of all prompts first, then of each bootstrap sample."""
    own, base, zero = (
        values.cpu().double() for values in (metric, evaluator.full.prompt_metrics.metric, evaluator.full.zero)
    )
    weights = torch.cat([torch.ones(1, len(own), dtype=torch.float64), evaluator.weights])
    return 1 - (1 - (weights @ (own - zero)) / (weights @ (base - zero))).abs()


def nodes_needed(curves: Sequence[Curve], wanted: float) -> tuple[int | None, int | None]:
    """Size from which on all larger circuits keep `wanted`: of the first curve, and the least of integrated gradients.

    None where not even the largest circuit keeps it. A smaller circuit that does by chance does not count.
    """
    ours, *others = curves
    theirs = [_needed(curve, wanted) for curve in others if family(curve.method) == GRADIENTS]
    return _needed(ours, wanted), min((size for size in theirs if size is not None), default=None)


def _needed(curve: Curve, wanted: float) -> int | None:
    reached = None
    for point in curve.points:
        if point.task_metrics.faithfulness.value < wanted:
            break
        reached = point.size
    return reached
