"""What two sets of prompts say of a circuit together, by hand."""

import pytest
import torch

from gossamer.circuits.measured_circuit import Measure, MeasuredCircuit
from gossamer.circuits.refine import _clearly

CIRCUIT = torch.arange(3)


def said(loss: float, *excess: float) -> Measure:
    return lambda circuit: (loss, torch.tensor(excess))


def test_the_mean_loss_is_over_all_prompts() -> None:
    assert MeasuredCircuit(CIRCUIT, said(0.1, 0.0, 0.0, 0.0), said(0.5, 0.0)).mean == pytest.approx(0.2)
    assert MeasuredCircuit(CIRCUIT, said(0.1, 0.0, 0.0, 0.0), None).mean == pytest.approx(0.1)


def test_a_circuit_overshoots_over_all_prompts_and_not_on_a_few_words_of_them() -> None:
    level, above = said(0.0, -0.02, 0.02, -0.01, 0.01, 0.0, 0.0), said(0.1, 0.09, 0.11, 0.1, 0.1, 0.1, 0.1)
    assert MeasuredCircuit(CIRCUIT, above, None).overshoots
    assert MeasuredCircuit(CIRCUIT, above, above).overshoots
    assert not MeasuredCircuit(CIRCUIT, level, None).overshoots
    # Six prompts of eighteen are .1 above: on their own by many standard errors, over all by .033, which is 2.8.
    twice = said(0.0, *[-0.02, 0.02, -0.01, 0.01, 0.0, 0.0] * 2)
    assert MeasuredCircuit(CIRCUIT, twice, above).overshoots
    below = said(0.0, *[-0.05] * 12)
    assert not MeasuredCircuit(CIRCUIT, below, above).overshoots


@pytest.mark.parametrize(
    ("fitted", "others", "clearly"), [(0.1, 0.1, True), (0.17, 0.14, False), (0.1, 0.21, False), (0.21, 0.0, False)]
)
def test_clearly_better_is_better_on_both_and_by_much_over_all(fitted: float, others: float, clearly: bool) -> None:
    two = (0.0, 0.0)
    other = MeasuredCircuit(CIRCUIT, said(0.2, *two), said(0.2, *two))
    assert _clearly(MeasuredCircuit(CIRCUIT, said(fitted, *two), said(others, *two)), other) == clearly
