"""Means are levelled in a network whose nodes add up: what every exchange does is known."""

import pytest
import torch

from gossamer.circuits.levelling import levelled
from gossamer.circuits.loss import metric_loss
from gossamer.circuits.measured_circuit import MeasuredCircuit
from gossamer.circuits.slope import Slope

N = 200
# Ten nodes do the task together; of the others some help a little, some hurt a little, and many do nothing.
EFFECTS = torch.cat([torch.full((10,), 0.1), torch.linspace(0.004, 0.001, 40), torch.linspace(-0.004, -0.001, 40)])
EFFECTS = torch.cat([EFFECTS, torch.zeros(N - len(EFFECTS))])
# What single prompts do beyond that; the means are 0.
NOISE = torch.tensor([-0.01, 0.01, 0.0, 0.005, -0.005] * 8)
NOTHING_LOST = torch.zeros(40)


def measure(circuit: torch.Tensor) -> tuple[float, torch.Tensor]:
    excess = EFFECTS[circuit].sum() - 1 + NOISE
    return metric_loss(excess).mean().item(), excess


def measured(circuit: torch.Tensor) -> MeasuredCircuit:
    return MeasuredCircuit(circuit, measure, measure)


def slope(found: MeasuredCircuit) -> Slope:
    return Slope(EFFECTS * found.excess.mean().sign(), torch.zeros(N))


def mean(circuit: torch.Tensor) -> float:
    return measure(circuit)[1].mean().item()


TASK, HELPING, HURTING, IDLE = torch.arange(N).split([10, 40, 40, 110])
TOO_MUCH = torch.cat([TASK, HELPING[:16], IDLE[:40]])
TOO_LITTLE = torch.cat([TASK, HURTING[:16], IDLE[:40]])


@pytest.mark.parametrize(("circuit", "before"), [(TOO_MUCH, 0.0548), (TOO_LITTLE, -0.0548)])
def test_as_many_others_come_as_make_up_for_the_mean(circuit: torch.Tensor, before: float) -> None:
    assert mean(circuit) == pytest.approx(before, abs=1e-4)
    found = levelled(measured(circuit), NOTHING_LOST, slope, measured).circuit
    assert len(set(found.tolist())) == len(circuit)
    assert abs(mean(found)) <= 0.0035
    assert set(TASK.tolist()) <= set(found.tolist()), "what matters most stays"


def test_what_is_lost_elsewhere_is_left() -> None:
    found = levelled(measured(TOO_MUCH), NOTHING_LOST - 0.03, slope, measured).circuit
    assert mean(found) == pytest.approx(0.03, abs=0.004)
    start = measured(TOO_MUCH)
    assert levelled(start, NOTHING_LOST - 0.0548, slope, measured) is start
    assert levelled(start, NOTHING_LOST - 0.2, slope, measured) is start, "no mean is moved away from the model's"


def test_what_chance_explains_is_left() -> None:
    start = measured(TOO_MUCH)
    spread = torch.tensor([-0.5, 0.5] * 20)
    assert levelled(start, spread, slope, measured) is start
    assert levelled(start, 0.1 * spread, slope, measured) is not start


def test_a_level_that_helps_the_fitted_prompts_alone_is_not_made() -> None:
    def elsewhere(circuit: torch.Tensor) -> tuple[float, torch.Tensor]:
        excess = measure(circuit)[1] - 0.0548
        return metric_loss(excess).mean().item(), excess

    def both(circuit: torch.Tensor) -> MeasuredCircuit:
        return MeasuredCircuit(circuit, measure, elsewhere)

    start = both(TOO_MUCH)
    assert start.mean_excess > 0.02
    assert levelled(start, NOTHING_LOST, slope, both) is start


def test_at_most_half_of_a_circuit_goes_and_only_what_there_is_comes() -> None:
    whole = measured(torch.arange(N))
    assert levelled(whole, NOTHING_LOST + 0.1, slope, measured) is whole
    tried: list[set[int]] = []

    def watched(circuit: torch.Tensor) -> MeasuredCircuit:
        tried.append(set(circuit.tolist()))
        return measured(circuit)

    for circuit in (TOO_MUCH, torch.arange(N - 2)):
        tried.clear()
        levelled(measured(circuit), NOTHING_LOST + 5.0, slope, watched)
        kept, most = set(circuit.tolist()), min(len(circuit) // 2, N - len(circuit))
        assert all(len(one) == len(circuit) for one in tried)
        assert max(len(kept - one) for one in tried) == most
