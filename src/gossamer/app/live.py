"""Circuits with their models in memory, for what a page asks that no file holds; one question at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import RestoredCircuit, circuit_dictionaries, circuit_model, restore_circuit
from gossamer.errors import GossamerError

# Questions that may wait; more are refused, so that a page that asks too much does not hold the machine for hours.
MOST_WAITING = 16
# Circuits that are kept ready; those of one model and one set of dictionaries share them.
_KEPT = 4


class BusyError(GossamerError):
    """Too many questions wait already."""


class LiveCircuits:
    """The circuits of a run, made ready when something is first asked of them.

    Memory: one model and one set of dictionaries; another model takes their place.

    Args:
        device: where models are loaded; None as :meth:`gossamer.LanguageModel.load`.
    """

    def __init__(self, device: str | None = None) -> None:
        self._device = device
        self._working, self._counting, self._waiting = threading.Lock(), threading.Lock(), 0
        self._ready: dict[str, RestoredCircuit] = {}

    @contextmanager
    def use(self, circuit: Circuit, beside: Path) -> Iterator[RestoredCircuit]:
        """The circuit ready to be measured, for this thread alone.

        Raises:
            BusyError: too many wait.
            GossamerError, UsageError: what the circuit was made with is not there any more, or has changed.
        """
        with self._turn():
            yield self._restored(circuit, beside)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._counting:
            if self._waiting >= MOST_WAITING:
                raise BusyError(f"at most {MOST_WAITING} questions can wait; wait for the answers")
            self._waiting += 1
        try:
            with self._working:
                yield
        finally:
            with self._counting:
                self._waiting -= 1

    def _restored(self, circuit: Circuit, beside: Path) -> RestoredCircuit:
        key = circuit.sha256
        if key in self._ready:
            return self._ready[key]
        same = next((one for one in self._ready.values() if _same_inputs(one.circuit, circuit)), None)
        if same is None:
            # Another model's memory is given back before the new one is loaded.
            self._ready.clear()
            model = circuit_model(circuit, beside=beside, device=self._device)
            dictionaries = circuit_dictionaries(circuit, None, beside, model)
        else:
            model, dictionaries = same.study.model, same.study.dictionaries
        if len(self._ready) >= _KEPT:
            self._ready.pop(next(iter(self._ready)))
        self._ready[key] = restore_circuit(circuit, model=model, dictionaries=dictionaries)
        return self._ready[key]


def _same_inputs(one: Circuit, other: Circuit) -> bool:
    if one.inputs is None or other.inputs is None:
        return False
    return one.inputs.model == other.inputs.model and one.inputs.dictionaries == other.inputs.dictionaries
