"""What is known of a hard circuit from its losses alone."""

import pytest
import torch

from gossamer.circuits.measured_circuit import Measure, MeasuredCircuit

CIRCUIT = torch.arange(3)


def measured(loss: float, check: float | None, missed: list[float], asked: list[str]) -> MeasuredCircuit:
    def gives(name: str, value: float) -> Measure:
        def measure(circuit: torch.Tensor) -> tuple[float, torch.Tensor]:
            asked.append(name)
            return value, torch.tensor(missed)

        return measure

    validation = None if check is None else gives("validation", check)
    return MeasuredCircuit(torch.tensor([3, 1]), gives("fitted", loss), validation)


def test_better_is_lower_on_both_sides_and_the_fitted_ones_are_asked_last() -> None:
    asked: list[str] = []
    start = measured(0.5, 0.4, [0.0], [])
    assert measured(0.4, 0.3, [0.0], asked).better(start)
    assert asked == ["validation", "fitted"]
    asked.clear()
    assert not measured(0.4, 0.4, [0.0], asked).better(start)
    assert asked == ["validation"]
    assert not measured(0.5, 0.3, [0.0], asked).better(start)
    assert not measured(0.5 - 1e-8, 0.3, [0.0], asked).better(start), "rounding is no gain"


def test_each_side_is_measured_once() -> None:
    asked: list[str] = []
    one = measured(0.5, 0.4, [0.2, 0.4], asked)
    assert (one.mean, one.loss, one.check) == (0.45, 0.5, 0.4)
    assert sorted(asked) == ["fitted", "validation"]
    asked.clear()
    alone = measured(0.5, None, [0.2, 0.4], asked)
    assert alone.check == alone.loss == alone.mean == 0.5
    assert asked == ["fitted"]


def test_it_meets_the_model_or_overshoots_it_by_its_mean() -> None:
    assert measured(0.0, 0.0, [0.5, -0.5], []).meets
    assert not measured(0.0, 0.0, [0.03, 0.03], []).meets
    assert measured(0.0, 0.0, [0.03, 0.03], []).overshoots
    assert not measured(0.0, 0.0, [-0.03, -0.03], []).overshoots
    # A mean of .05 with a standard error of .55 is nothing that the prompts alone would not do.
    assert not measured(0.0, 0.0, [0.6, -0.5], []).overshoots


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
    found = MeasuredCircuit(CIRCUIT, said(fitted, *two), said(others, *two))
    assert found.clearly_better(other) == clearly
