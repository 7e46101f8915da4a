"""What the same search finds in dictionaries that say nothing of the model: what a circuit is held against."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.circuits.circuit_numbers import CircuitNumbers
from gossamer.circuits.task_metrics import circuit_mark
from gossamer.display import plural, short_repr
from gossamer.statistics import Interval

TREATED = "these dictionaries"


@dataclass(frozen=True)
class ControlArm:
    """One set of dictionaries, treated or control, and what the search found in it.

    Attributes:
        name: what was done to the dictionaries.
        dictionaries: all of their latents, nothing ablated (its size is their candidates').
        circuit: of at most the reported size, by the steps that find a circuit of a given size.
        points: the circuits of the path, by falling size.
    """

    name: str
    dictionaries: CircuitNumbers
    circuit: CircuitNumbers
    points: tuple[CircuitNumbers, ...]

    __repr__ = short_repr

    def mark(self, circuit: CircuitNumbers) -> str:
        """What stands beside a circuit of the arm: BEYOND if it is more faithful than the arm's dictionaries."""
        return circuit_mark(circuit.faithfulness.value, self.dictionaries.faithfulness.value)

    def _facts(self) -> Iterator[str]:
        yield self.name
        yield f"the dictionaries keep {self.dictionaries.faithfulness.value:.3g}"
        yield f"{plural(self.circuit.size, 'node')} keep {self.circuit.faithfulness}"


@dataclass(frozen=True)
class ControlGap:
    """By how much the treated circuit does better than the best control in one number.

    Attributes:
        claim: the number, in words.
        treated, control: its value for the circuit and for the control that does best in it.
        best: which control that is.
        gap: positive where the circuit does better; the interval is paired, over the same samples of the prompts.
    """

    claim: str
    treated: float
    control: float
    best: str
    gap: Interval

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.claim
        yield f"{self.gap} over {self.best}"

    @property
    def shown(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.gap.low > 0


@dataclass(frozen=True)
class Controls:
    """The circuit beside those of the same search in control dictionaries: prompts, settings and sizes are the same.

    Attributes:
        size: of the circuit that is reported, and the most that its counterparts have.
        treated: what the search finds in the dictionaries themselves.
        controls: what it finds in the others.
        gaps: claim by claim, at that size.
    """

    size: int
    treated: ControlArm
    controls: tuple[ControlArm, ...]
    gaps: tuple[ControlGap, ...]

    __repr__ = short_repr

    @property
    def arms(self) -> tuple[ControlArm, ...]:
        """All of them, the treated one first."""
        return (self.treated, *self.controls)

    def _facts(self) -> Iterator[str]:
        yield plural(self.size, "node")
        yield plural(len(self.controls), "control")
        yield f"{sum(gap.shown for gap in self.gaps)} of {plural(len(self.gaps), 'claim')} above the best of them"
