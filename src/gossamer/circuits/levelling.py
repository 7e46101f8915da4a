"""Bring a circuit's mean to the full model's, by as much as prompts with other words will show."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.measured_circuit import MeasuredCircuit, standard_error

# A mean that is so near the full model's, as a share of it, is level with it; how many trials are made to level others.
_LEVEL, _TRIALS = 0.003, 6
# Smaller circuits, which fall short, are not levelled.
LEAST_LEVELLED = 50


def levelled(
    found: MeasuredCircuit,
    lost: Float[Tensor, "rows"],
    gradient: Callable[[MeasuredCircuit], Float[Tensor, "node"]],
    measured: Callable[[Int[Tensor, "chosen"]], MeasuredCircuit],
) -> MeasuredCircuit:
    """As many nodes whose mean makes up for what is lost on other words alone, where both losses are lower for it.

    Exchanges replace what misses most by what gives most: too coarse a step for a circuit that does a few hundredths
    too much. Here nodes that matter least give way to others, as many as make up for the mean. What circuits keep on
    prompts that they were fitted to is more than they keep elsewhere: that much is left to them.

    Args:
        found: the circuit.
        lost: what it loses where it is not fitted, on each of some prompts: negative.
        gradient: of a circuit's loss by the masks of all nodes.
        measured: measures a circuit.
    """
    level = max(_LEVEL, math.hypot(found.error, standard_error(lost)))
    left = too_much = found.mean_excess + lost.mean().item()
    if abs(too_much) <= level:
        return found
    leaving, coming, n = _small_changes(found.circuit, gradient(found), abs(too_much))
    best, low, high = found, 0, len(coming) + 1
    for _ in range(_TRIALS):
        n = min(n, high - 1)
        if n <= low or abs(left) <= level:
            break
        trial = measured(torch.cat([leaving[n:], coming[:n]]))
        # Nodes shift all prompts alike, nearly: by how much is read off the fewer ones.
        now = too_much + (trial.missed.mean() - found.missed.mean()).item()
        if abs(now) < abs(left) and trial.better(found):
            best, left = trial, now
        low, high = (n, high) if now * too_much > 0 else (low, n)
        n = 2 * n if high > len(coming) else (low + high) // 2
    return best


def _small_changes(
    circuit: Int[Tensor, "chosen"], slope: Float[Tensor, "node"], change: float
) -> tuple[Int[Tensor, "chosen"], Int[Tensor, "others"], int]:
    """A circuit's nodes by what their loss would cost, least first, others by what they bring, and how many to try.

    As many of either as change the mean by so much, to first order; at most half of the circuit.
    """
    most = min(len(circuit) // 2, len(slope) - len(circuit))
    leaving, coming = by_importance(circuit, slope)
    gained = (slope[leaving[:most]] - slope[coming[:most]]).cumsum(0)
    return leaving, coming[:most], 1 + int((gained < change).sum())


def by_importance(
    circuit: Int[Tensor, "chosen"], slope: Float[Tensor, "node"]
) -> tuple[Int[Tensor, "chosen"], Int[Tensor, "others"]]:
    """A circuit's nodes that matter least first, and all others, those that help most first; to first order.

    Before all others go those without which the loss is no higher, and of both kinds the ones that matter least: what
    hurts most on the prompts of a gradient does so by their names, and circuits without it keep little of others.
    """
    own = slope[circuit]
    leaving = circuit[torch.argsort(own.abs() + (own < 0) * own.abs().max(), stable=True)]
    coming = torch.argsort(slope.index_fill(0, circuit, torch.inf), stable=True)[: len(slope) - len(circuit)]
    return leaving, coming
