"""Bring a circuit's mean to the full model's, by as much as prompts with other words will show."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.measured_circuit import MeasuredCircuit, standard_error
from gossamer.circuits.slope import Slope

# A mean that is so near the full model's, as a share of it, is level with it; how many trials are made to level others.
_LEVEL, _TRIALS = 0.003, 6
# Smaller circuits, which fall short, are not levelled.
LEAST_LEVELLED = 50


def levelled(
    found: MeasuredCircuit,
    lost: Float[Tensor, "rows"],
    slope: Callable[[MeasuredCircuit], Slope],
    measured: Callable[[Int[Tensor, "chosen"]], MeasuredCircuit],
) -> MeasuredCircuit:
    """As many nodes whose mean makes up for what is lost on other words alone, where both losses are lower for it.

    Exchanges replace what misses most by what gives most: too coarse a step for a circuit that does a few hundredths
    too much. Here nodes that matter least give way to others, as many as make up for the mean. What circuits keep on
    prompts that they were fitted to is more than they keep elsewhere: that much is left to them.

    Args:
        found: the circuit.
        lost: what it loses where it is not fitted, on each of some prompts: negative.
        slope: of a circuit's loss, by the masks of all nodes.
        measured: measures a circuit.
    """
    level = max(_LEVEL, math.hypot(found.error, standard_error(lost)))
    left = too_much = found.mean_excess + lost.mean().item()
    if abs(too_much) <= level:
        return found
    leaving, coming, n = _small_changes(found.circuit, slope(found), abs(too_much))
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
    circuit: Int[Tensor, "chosen"], slope: Slope, change: float
) -> tuple[Int[Tensor, "chosen"], Int[Tensor, "others"], int]:
    """A circuit's nodes by what their loss would cost, least first, others by what they bring, and how many to try.

    As many of either as change the mean by so much, to first order; at most half of the circuit.
    """
    leaving, coming = slope.leaving(circuit), slope.coming(circuit)[: len(circuit) // 2]
    gained = (slope.mean[leaving[: len(coming)]] - slope.mean[coming]).cumsum(0)
    return leaving, coming, 1 + int((gained < change).sum())
