"""One model and one set of dictionaries in memory, for what a page asks that no file holds; one question at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from gossamer.app.memory import require_memory
from gossamer.app.model_inputs import ModelInputs
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import Dictionaries, RestoredCircuit, restore_circuit
from gossamer.circuits.inputs import recorded_model, require_same
from gossamer.errors import GossamerError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel

# Questions that may wait; more are refused, so that a page that asks too much does not hold the machine for hours.
MOST_WAITING = 16
# Circuits that are kept ready beside the model and the dictionaries that they share.
_KEPT = 4


class BusyError(GossamerError):
    """Too many questions wait already."""


class LiveModel(NamedTuple):
    """A model with dictionaries, for one thread alone.

    Attributes:
        model: the model.
        dictionaries: by site; none where the part of the run names a model alone.
        bos: whether texts begin with BOS; None: as the tokenizer does.
    """

    model: LanguageModel
    dictionaries: Dictionaries
    bos: bool | None


class LiveModels:
    """What a run was made with, loaded when something is first asked of it.

    Memory: one model and one set of dictionaries; others take their place.

    Args:
        device: where models are loaded; None as :meth:`gossamer.LanguageModel.load`.
        given: models that the user names, for parts of a run that know their model by its title alone.
    """

    def __init__(self, device: str | None = None, given: tuple[str, ...] = ()) -> None:
        self.given = given
        self._device = device
        self._working, self._counting, self._waiting = threading.Lock(), threading.Lock(), 0
        self._model: LanguageModel | None = None
        self._source: str | None = None
        self._types: tuple[str, ...] = ()
        self._sha256: str | None = None
        self._dictionaries: Dictionaries | None = None
        self._dictionaries_of: object = None
        self._circuits: dict[str, RestoredCircuit] = {}

    @contextmanager
    def use(self, wanted: ModelInputs) -> Iterator[LiveModel]:
        """Model and dictionaries, for this thread alone.

        Raises:
            BusyError: too many wait.
            GossamerError, UsageError: what the run names is not there any more, has changed, or is too large.
        """
        with self.turn():
            yield self._loaded(wanted)

    @contextmanager
    def use_circuit(self, circuit: Circuit, wanted: ModelInputs) -> Iterator[RestoredCircuit]:
        """The circuit ready to be measured, for this thread alone. Errors: those of :meth:`use`."""
        with self.turn():
            yield self._restored(circuit, self._loaded(wanted))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The machine for this thread alone, without a model. Raises :class:`BusyError` where too many wait."""
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

    def _loaded(self, wanted: ModelInputs) -> LiveModel:
        model = self._model_for(wanted)
        if wanted.dictionaries is None:
            return LiveModel(model, {}, wanted.bos)
        if self._dictionaries is None or self._dictionaries_of != wanted.key:
            # The others' memory is given back before these are loaded.
            self._dictionaries, self._circuits = None, {}
            self._dictionaries = wanted.dictionaries(model)
            self._dictionaries_of = wanted.key
        return LiveModel(model, self._dictionaries, wanted.bos)

    def _model_for(self, wanted: ModelInputs) -> LanguageModel:
        known, source = wanted.model, wanted.source
        if self._model is None or self._source != source or known.dtype not in ("", *self._types):
            # The other's memory is given back before this one is loaded.
            self._model = self._dictionaries = self._sha256 = None
            self._circuits = {}
            require_memory(source)
            self._model = recorded_model(known, beside=wanted.beside, device=self._device)
            # A machine without half precision computes in another type than was asked for.
            self._source, self._types = source, (known.dtype, str(self._model.dtype).removeprefix("torch."))
        if known.sha256 is not None:
            self._sha256 = self._sha256 or weights_sha256(self._model.hf)
            require_same("model", source, known.sha256, self._sha256, "--model (model=)")
        return self._model

    def _restored(self, circuit: Circuit, found: LiveModel) -> RestoredCircuit:
        key = circuit.sha256
        if key not in self._circuits:
            if len(self._circuits) >= _KEPT:
                self._circuits.pop(next(iter(self._circuits)))
            self._circuits[key] = restore_circuit(circuit, model=found.model, dictionaries=found.dictionaries)
        return self._circuits[key]
