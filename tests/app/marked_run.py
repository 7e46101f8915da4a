"""A run whose circuit is more faithful than its dictionaries, wherever a faithfulness stands in a table."""

from dataclasses import replace

from kinds_run import write_task_study

from gossamer.circuits.circuit_numbers import CircuitNumbers
from gossamer.circuits.controls import TREATED, ControlArm, Controls
from gossamer.circuits.results import PromptCase
from gossamer.statistics import Interval

ERROR = Interval(0.375, 0.25, 0.5)


def above(row):
    """A network that keeps 0.9, where its dictionaries keep less."""
    share, to_dictionaries = Interval(0.9, 0.8, 0.95), Interval(1.25, 1.0, 1.5)
    return replace(row, faithfulness=share, faithfulness_to_dictionaries=to_dictionaries, prompt_error=ERROR)


def below(row):
    """A network that keeps half of what its dictionaries keep."""
    share, to_dictionaries = Interval(0.3, 0.2, 0.4), Interval(0.5, 0.4, 0.6)
    return replace(row, faithfulness=share, faithfulness_to_dictionaries=to_dictionaries, prompt_error=ERROR)


def exceeding(findings):
    """Findings in which the circuit exceeds its dictionaries: in the budget, at every other size, on one of two kinds
    of prompts and in one of two controls. The full model exceeds them too, as it nearly always does."""
    full, *others, circuit, empty = findings.budget
    full = above(full)
    curves = tuple(
        replace(
            curve,
            points=tuple(
                replace(point, task_metrics=(below if place % 2 else above)(point.task_metrics))
                for place, point in enumerate(curve.points)
            ),
        )
        for curve in findings.curves
    )
    return replace(
        findings,
        budget=(full, *map(below, others), above(circuit), below(empty)),
        curves=curves,
        cases=(PromptCase("one kind", 5, full, above(circuit)), PromptCase("another", 3, full, below(circuit))),
        controls=Controls(12, _arm(TREATED, 0.5), (_arm("shuffled-latents", 0.95),), ()),
    )


def _arm(name, kept):
    """Dictionaries that keep so much, with a circuit that keeps 0.9."""

    def of(size, share):
        return CircuitNumbers(size, Interval(share, share - 0.1, share + 0.05), ERROR, 0.75, 0.125)

    return ControlArm(name, of(100, kept), of(12, 0.9), ())


def write_marked(folder, found, findings):
    """Two circuits, the second without findings, and a study of both tasks with the first's."""
    marked = exceeding(findings)
    found.circuit.save(folder / "circuit.json")
    marked.save(folder / "findings.json")
    replace(found.circuit, nodes=found.circuit.nodes[:6]).save(folder / "half" / "circuit.json")
    write_task_study(folder / "study", found, marked)
    return marked
